import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import type { z } from 'zod';

import { resolveOptions, ServiceHttp, type ClientOptions, type HttpRequest } from '../client';
import {
  endpointDocumentSchema,
  endpointStatusSchema,
  functionDocumentSchema,
  resultConnectionSchema,
  submitResponseSchema,
  type taskDocumentSchema,
  taskGroupSchema,
} from '../contracts/http/globus';
import {
  endpointStateSchema,
  functionListSchema,
  groupResultsSchema,
  submissionListSchema,
  submissionSchema,
  taskListSchema,
  taskStateSchema,
  retryResponseSchema,
} from '../contracts/http/v1';
import {
  auditListSchema,
  groupListSchema,
  limitListSchema,
  type AuditEntry,
  groupSchema,
  createdIdentitySchema,
  identityListSchema,
  invitationSchema,
  type Invitation,
} from '../contracts/http/v1-identities';
import {
  createdTokenSchema,
  tokenListSchema,
  type CreatedToken,
  type TokenDocument,
  type TokenScope,
} from '../contracts/http/tokens';
import { isEndState, type SubmissionState, type TaskState as TaskStateName } from '../contracts/states';
import { JSON_RESULT_SERIALIZER, packJsonArguments } from '../contracts/packing';

import { ConnectionError, taskErrorOf } from './errors';
import { javascript, type AnyFunction, type FunctionSource, type RegisterOptions } from './functions';
import { wirePolicy, type CallPolicy } from './policy';
import { valueOf } from './values';

export type EndpointDocument = z.infer<typeof endpointDocumentSchema>;
export type EndpointState = z.infer<typeof endpointStateSchema>;
export type EndpointStatus = z.infer<typeof endpointStatusSchema>;
export type FunctionDocument = z.infer<typeof functionDocumentSchema>;
export type FunctionSummary = z.infer<typeof functionListSchema>['functions'][number];
export type TaskDocument = z.infer<typeof taskDocumentSchema>;
export type TaskState = z.infer<typeof taskStateSchema>;
export type Submission = z.infer<typeof submissionSchema>;
export type SubmissionSummary = z.infer<typeof submissionListSchema>['submissions'][number];
export type TaskSummary = z.infer<typeof taskListSchema>['tasks'][number];
export type RetryResponse = z.infer<typeof retryResponseSchema>;
export type GroupResults = z.infer<typeof groupResultsSchema>;
export type IdentityGroup = z.infer<typeof groupSchema>;
export type IdentityDocument = z.infer<typeof identityListSchema>['identities'][number];

/** One call with JSON arguments. */
export interface CallRequest {
  functionId: string;
  args?: readonly unknown[];
  kwargs?: Readonly<Record<string, unknown>>;
}

export interface SubmitOptions extends CallPolicy {
  /** Task group of the tasks. Default: a new group. */
  taskGroupId?: string;
  /** Also publish results to the group's queue, for a reader over AMQP. Default: false. */
  createQueue?: boolean;
  /** The reader of the queue understands batches of results, as `Executor` does. Default: false. */
  resultBatches?: boolean;
  /** Resource specification for stock endpoints. */
  resourceSpecification?: Record<string, unknown>;
  /** Idempotency key: the service accepts the same key and content once. Default: a new key per call, so retries are safe. */
  idempotencyKey?: string;
}

export interface Submitted {
  taskGroupId: string;
  /** Task IDs, in the order of the calls. */
  taskIds: string[];
}

export interface SubmissionFilter {
  endpointId?: string;
  taskGroupId?: string;
  state?: SubmissionState;
  /** Only submissions with failed or expired tasks. */
  failed?: boolean;
  /** Only submissions with open tasks. */
  open?: boolean;
  /** Administrators only: the submissions of all identities. */
  all?: boolean;
  /** Only submissions whose ID starts with these characters. */
  prefix?: string;
  /** Default: 100. At most 1,000. */
  limit?: number;
}

/** Tasks of one submission or of one task group. */
export type TasksOf = { submissionId: string } | { taskGroupId: string };

/** A call whose arguments are already packed. */
export interface PackedCall {
  functionId: string;
  payload: string;
}

/** Results are JSON if possible, otherwise in Python's serialization, which the client returns as an opaque value. */
const RESULT_SERIALIZERS = [JSON_RESULT_SERIALIZER, 'globus_compute_sdk.serialize.DillDataBase64'];
const LONG_POLL_S = 20;
/** Added to the wait time of a long poll to get the timeout of its request. */
const POLL_SLACK_MS = 15_000;

/** A client of one service for one identity. It does not keep the process alive. `close` closes its connections. */
export class Client {
  /** How to read integers beyond 2^53 in results. */
  readonly integers: 'refuse' | 'bigint';
  readonly #http: ServiceHttp;

  /** Missing options come from FUNCX_API_URL, FUNCX_TOKEN, FUNCX_CLIENT_ID, FUNCX_CLIENT_SECRET and FUNCX_CA. */
  constructor(options: ClientOptions = {}) {
    const resolved = resolveOptions(options);
    this.integers = resolved.integers;
    this.#http = new ServiceHttp(resolved);
  }

  /** Registers a function and returns its ID. Every call creates a new ID. */
  async registerFunction(fn: FunctionSource | AnyFunction, options: RegisterOptions = {}): Promise<string> {
    const { language, name, source, description } = typeof fn === 'function' ? javascript(fn) : fn;
    const policy = options.policy && wirePolicy(options.policy);
    const body = {
      function_name: name,
      function_code: source,
      serialized: false,
      language,
      meta: {},
      ...((options.description ?? description) === undefined ? {} : { description: options.description ?? description }),
      public: options.public,
      group: options.groupId,
      policy,
    };
    // A retry after an unknown outcome may create another ID, which nobody uses.
    const answer = await this.request({ method: 'POST', path: '/v3/functions', body, mayRepeat: true });
    return (answer as { function_uuid: string }).function_uuid;
  }

  /** Lists your functions, newest first. */
  async functions({ name, codeSha256 }: { name?: string; codeSha256?: string } = {}): Promise<FunctionSummary[]> {
    return (await this.#get('/v1/functions', functionListSchema, { name, code_sha256: codeSha256 })).functions;
  }

  async function(id: string): Promise<FunctionDocument> {
    return this.#get(`/v2/functions/${encodeURIComponent(id)}`, functionDocumentSchema);
  }

  async deleteFunction(id: string): Promise<void> {
    await this.request({ method: 'DELETE', path: `/v2/functions/${encodeURIComponent(id)}` });
  }

  /** Lists your endpoints; with role `any`, all endpoints that you may see. */
  async endpoints(filter: { role?: 'owner' | 'any' } = {}): Promise<EndpointDocument[]> {
    return this.#get('/v2/endpoints', endpointDocumentSchema.array(), filter);
  }

  async endpoint(id: string): Promise<EndpointDocument> {
    return this.#get(`/v2/endpoints/${encodeURIComponent(id)}`, endpointDocumentSchema);
  }

  /** Returns the current state of an endpoint: since when it is online or offline, and its tasks in hand and waiting. */
  async endpointState(id: string): Promise<EndpointState> {
    return this.#get(`/v1/endpoints/${encodeURIComponent(id)}`, endpointStateSchema);
  }

  async endpointStatus(id: string): Promise<EndpointStatus> {
    return this.#get(`/v2/endpoints/${encodeURIComponent(id)}/status`, endpointStatusSchema);
  }

  /** Deletes an endpoint. Its agent stops, and its open tasks fail. */
  async deleteEndpoint(id: string): Promise<void> {
    await this.request({ method: 'DELETE', path: `/v2/endpoints/${encodeURIComponent(id)}` });
  }

  /** Submits calls to one endpoint, all or none. Retries on connection errors; the service accepts the calls only once. */
  async submit(endpointId: string, calls: readonly CallRequest[], options: SubmitOptions = {}): Promise<Submitted> {
    const packed = calls.map(({ functionId, args, kwargs }) => ({ functionId, payload: packJsonArguments(args ?? [], kwargs) }));
    return this.submitPacked(endpointId, packed, options);
  }

  /** Like {@link submit}, for arguments that are already packed. */
  async submitPacked(endpointId: string, calls: readonly PackedCall[], options: SubmitOptions = {}): Promise<Submitted> {
    const tasks: Record<string, string[]> = {};
    // The response has one list of IDs per function. Each call keeps its index in that list.
    const places = calls.map(({ functionId, payload }) => ({ functionId, at: (tasks[functionId] ??= []).push(payload) - 1 }));
    const policy = wirePolicy(options);
    const specification = { ...options.resourceSpecification, ...(policy ? { funcx: policy } : {}) };
    const answer = await this.#ask(
      {
        method: 'POST',
        path: `/v3/endpoints/${encodeURIComponent(endpointId)}/submit`,
        body: {
          create_queue: options.createQueue ?? false,
          ...(options.resultBatches ? { result_batches: true } : {}),
          tasks,
          result_serializers: RESULT_SERIALIZERS,
          user_runtime: {},
          task_group_id: options.taskGroupId,
          ...(Object.keys(specification).length === 0 ? {} : { resource_specification: specification }),
        },
        headers: { 'idempotency-key': options.idempotencyKey ?? randomUUID() },
        mayRepeat: true,
      },
      submitResponseSchema,
    );
    const taskIds = places.map(({ functionId, at }) => answer.tasks[functionId]?.[at] ?? '');
    return { taskGroupId: answer.task_group_id, taskIds };
  }

  /** Returns a task's state, with its result or exception in wire form. Waits up to `waitS` s (at most 30) for the answer. */
  async task(id: string, { waitS = 0, signal }: { waitS?: number; signal?: AbortSignal } = {}): Promise<TaskState> {
    return this.#ask(
      {
        method: 'GET',
        path: `/v1/tasks/${encodeURIComponent(id)}`,
        query: { wait_s: waitS },
        timeoutMs: waitS * 1000 + POLL_SLACK_MS,
        signal,
      },
      taskStateSchema,
    );
  }

  /** Returns the states of many tasks, by ID. Omits unknown IDs. */
  async batchStatus(ids: readonly string[]): Promise<Record<string, TaskDocument>> {
    const answer = await this.request({ method: 'POST', path: '/v2/batch_status', body: { task_ids: ids }, mayRepeat: true });
    return (answer as { results: Record<string, TaskDocument> }).results;
  }

  /** Waits for a task and returns its value. Throws a TaskError if the task failed. Aborting the signal ends only the wait. */
  async result<Result = unknown>(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<Result> {
    for (;;) {
      signal?.throwIfAborted();
      const task = await this.task(id, { waitS: LONG_POLL_S, signal });
      if (!isEndState(task.state)) continue;
      if (task.result !== undefined) return valueOf(task.result, this) as Result;
      throw taskErrorOf(id, task.error_code, task.exception ?? 'The task failed without saying why.');
    }
  }

  /** Cancels a task. Returns false if the task already had an answer. */
  async cancelTask(id: string): Promise<boolean> {
    return (await this.#cancel(`/v1/tasks/${encodeURIComponent(id)}`)) > 0;
  }

  /** Cancels the open tasks of a submission and returns their number. */
  async cancelSubmission(id: string): Promise<number> {
    return this.#cancel(`/v1/submissions/${encodeURIComponent(id)}`);
  }

  /** Cancels the open tasks of a task group and returns their number. */
  async cancelGroup(taskGroupId: string): Promise<number> {
    return this.#cancel(`/v1/taskgroups/${encodeURIComponent(taskGroupId)}`);
  }

  /** Lists your submissions, newest first. */
  async submissions({ endpointId, taskGroupId, ...filter }: SubmissionFilter = {}): Promise<SubmissionSummary[]> {
    const flag = (is: boolean | undefined): string | undefined => (is === true ? 'true' : undefined);
    const flags = { failed: flag(filter.failed), open: flag(filter.open), all: flag(filter.all) };
    const query = { ...filter, ...flags, endpoint: endpointId, group: taskGroupId };
    return (await this.#get('/v1/submissions', submissionListSchema, query)).submissions;
  }

  /** Yields the tasks of a submission or a group in the order of their IDs; with `states`, only tasks in these states. */
  async *tasks(of: TasksOf, { states = [] }: { states?: readonly TaskStateName[] } = {}): AsyncGenerator<TaskSummary> {
    const state = states.length === 0 ? undefined : states.join(',');
    for (let after: string | undefined; ;) {
      const page = await this.#get(`${pathOf(of)}/tasks`, taskListSchema, { state, after, limit: 1_000 });
      yield* page.tasks;
      if (page.next === null) return;
      after = page.next;
    }
  }

  /**
   * Resubmits the tasks of a submission or a group that ended without a value, as new submissions in a new group. Default: failed
   * and expired tasks. Execution is at least once: side effects of the earlier run may happen again.
   */
  async retry(
    of: TasksOf,
    { states }: { states?: readonly ('failed' | 'expired' | 'cancelled')[] } = {},
  ): Promise<RetryResponse> {
    return this.#ask(
      {
        method: 'POST',
        path: `${pathOf(of)}/retry`,
        body: states === undefined ? {} : { states },
        headers: { 'idempotency-key': randomUUID() },
        mayRepeat: true,
      },
      retryResponseSchema,
    );
  }

  /** Returns a submission with the number of its tasks in each state. */
  async submission(id: string): Promise<Submission> {
    return this.#get(`/v1/submissions/${encodeURIComponent(id)}`, submissionSchema);
  }

  /** Returns a group's task IDs, sorted by submission time, then index. `batches`: the caller reads the batch queue. */
  async groupTaskIds(taskGroupId: string, { queue = 'none' }: { queue?: 'none' | 'batches' } = {}): Promise<string[]> {
    const group = await this.#get(`/v2/taskgroup/${encodeURIComponent(taskGroupId)}`, taskGroupSchema, { queue });
    return group.tasks.map(({ id }) => id).sort();
  }

  /** Returns results of a group after a cursor (0 at first). Waits up to `waitS` seconds (at most 30) for the next result. */
  async groupResults(
    taskGroupId: string,
    {
      after = 0,
      limit = 1_000,
      waitS = 0,
      signal,
    }: { after?: number; limit?: number; waitS?: number; signal?: AbortSignal } = {},
  ): Promise<GroupResults> {
    return this.#ask(
      {
        method: 'GET',
        path: `/v1/taskgroups/${encodeURIComponent(taskGroupId)}/results`,
        query: { after, limit, wait_s: waitS },
        timeoutMs: waitS * 1000 + POLL_SLACK_MS,
        signal,
      },
      groupResultsSchema,
    );
  }

  /** Opens a group's results after a cursor as a stream of server-sent events, until the signal aborts. */
  async groupEvents(taskGroupId: string, after: number, signal: AbortSignal): Promise<IncomingMessage> {
    const path = `/v1/taskgroups/${encodeURIComponent(taskGroupId)}/events`;
    return this.#http.stream({ method: 'GET', path, query: { after }, headers: { accept: 'text/event-stream' }, signal });
  }

  /** Returns how to read results over AMQP: URL, private certificate authority, and the prefix of queue names. */
  async resultsConnection(): Promise<z.infer<typeof resultConnectionSchema>> {
    return this.#get('/v2/get_amqp_result_connection_url', resultConnectionSchema, { client: 'funcx' });
  }

  /**
   * Creates a one-time code with which an agent on another machine enrols for your endpoint with this name, or for a new
   * endpoint. `isPublic` and `groupId` share a new endpoint. Only this response contains the secret. `expiresInS`: 60 s to
   * 30 days. Default: one hour.
   */
  async invite(
    endpoint: { name: string; isPublic?: boolean; groupId?: string } | { endpointId: string },
    options: { expiresInS?: number } = {},
  ): Promise<Invitation> {
    const body = {
      ...('name' in endpoint
        ? { name: endpoint.name, public: endpoint.isPublic, group: endpoint.groupId }
        : { endpoint_id: endpoint.endpointId }),
      expires_in_s: options.expiresInS,
    };
    return this.#ask({ method: 'POST', path: '/v1/invitations', body }, invitationSchema);
  }

  /** Administrators only: creates an identity. Only this response contains its secret. */
  async createIdentity(
    name: string,
    options: { clientId?: string; clientSecret?: string; isAdmin?: boolean } = {},
  ): Promise<z.infer<typeof createdIdentitySchema>> {
    const body = {
      name,
      is_admin: options.isAdmin ?? false,
      client_id: options.clientId,
      client_secret: options.clientSecret,
    };
    return this.#ask({ method: 'POST', path: '/v1/identities', body }, createdIdentitySchema);
  }

  /** Administrators only: lists all identities. */
  async identities(): Promise<IdentityDocument[]> {
    return (await this.#get('/v1/identities', identityListSchema)).identities;
  }

  /** Administrators only: revokes an identity by name or ID, and returns its ID. */
  async revokeIdentity(nameOrId: string): Promise<string> {
    const answer = await this.request({ method: 'DELETE', path: `/v1/identities/${encodeURIComponent(nameOrId)}` });
    return (answer as { client_id: string }).client_id;
  }

  /** Creates an API token. Only this response contains the token. `expiresInS`: in seconds. Default: 30 days. */
  async createToken(name: string, scopes: readonly TokenScope[], expiresInS?: number): Promise<CreatedToken> {
    const body = { name, scopes, expires_in: expiresInS };
    return this.#ask({ method: 'POST', path: '/v1/tokens', body }, createdTokenSchema);
  }

  /** Lists your API tokens; administrators may name another identity. */
  async tokens(identity?: string): Promise<TokenDocument[]> {
    return (await this.#get('/v1/tokens', tokenListSchema, { identity })).tokens;
  }

  /** Revokes an API token by name or ID, and returns its ID. Administrators may name another identity. */
  async revokeToken(nameOrId: string, identity?: string): Promise<string> {
    const path = `/v1/tokens/${encodeURIComponent(nameOrId)}`;
    return ((await this.request({ method: 'DELETE', path, query: { identity } })) as { token_id: string }).token_id;
  }

  /** Returns your limits, and how much of each you use. */
  async limits(): Promise<{ name: string; used: number; limit: number }[]> {
    return (await this.#get('/v1/limits', limitListSchema)).limits;
  }

  /** Administrators only: lists who changed what and what was refused, newest first. */
  async auditEntries(query: HttpRequest['query'] = {}): Promise<AuditEntry[]> {
    return (await this.#get('/v1/audit', auditListSchema, query)).entries;
  }

  /** Creates a group of identities, which you own. Users in the OpenID Connect provider's `providerGroup` are members. */
  async createGroup(name: string, options: { providerGroup?: string } = {}): Promise<IdentityGroup> {
    const body = { name, provider_group: options.providerGroup };
    return this.#ask({ method: 'POST', path: '/v1/groups', body }, groupSchema);
  }

  /** Lists groups that you own or are a member of. */
  async groups(): Promise<IdentityGroup[]> {
    return (await this.#get('/v1/groups', groupListSchema)).groups;
  }

  async addToGroup(group: string, identity: string): Promise<IdentityGroup> {
    const path = `/v1/groups/${encodeURIComponent(group)}/members`;
    return this.#ask({ method: 'POST', path, body: { identity }, mayRepeat: true }, groupSchema);
  }

  async removeFromGroup(group: string, identity: string): Promise<IdentityGroup> {
    const path = `/v1/groups/${encodeURIComponent(group)}/members/${encodeURIComponent(identity)}`;
    return this.#ask({ method: 'DELETE', path }, groupSchema);
  }

  /** Sends any other request to the service, with token and retries. */
  async request(request: HttpRequest): Promise<unknown> {
    return this.#http.request(request);
  }

  /** Closes the connections, which aborts pending requests. The client may be used again. */
  close(): void {
    this.#http.close();
  }

  async #cancel(path: string): Promise<number> {
    const answer = await this.request({ method: 'POST', path: `${path}/cancel`, mayRepeat: true });
    return (answer as { cancelled: number }).cancelled;
  }

  async #get<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query: HttpRequest['query'] = {},
  ): Promise<z.output<Schema>> {
    return this.#ask({ method: 'GET', path, query }, schema);
  }

  async #ask<Schema extends z.ZodType>(request: HttpRequest, schema: Schema): Promise<z.output<Schema>> {
    const parsed = schema.safeParse(await this.request(request));
    if (parsed.success) return parsed.data;
    throw new ConnectionError(
      `The client cannot parse the response to ${request.method} ${request.path}; install the same release as the service.`,
      { cause: parsed.error },
    );
  }
}

const pathOf = (of: TasksOf): string =>
  'submissionId' in of
    ? `/v1/submissions/${encodeURIComponent(of.submissionId)}`
    : `/v1/taskgroups/${encodeURIComponent(of.taskGroupId)}`;
