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
  functionListSchema,
  groupListSchema,
  groupResultsSchema,
  groupSchema,
  createdIdentitySchema,
  identityListSchema,
  submissionListSchema,
  submissionSchema,
  taskStateSchema,
} from '../contracts/http/v1';
import { isEndState, type SubmissionState } from '../contracts/states';
import { JSON_RESULT_SERIALIZER, packJsonArguments } from '../contracts/packing';

import { ConnectionError, taskErrorOf } from './errors';
import { javascript, type AnyFunction, type FunctionSource, type RegisterOptions } from './functions';
import { wirePolicy, type CallPolicy } from './policy';
import { valueOf } from './values';

export type EndpointDocument = z.infer<typeof endpointDocumentSchema>;
export type EndpointStatus = z.infer<typeof endpointStatusSchema>;
export type FunctionDocument = z.infer<typeof functionDocumentSchema>;
export type FunctionSummary = z.infer<typeof functionListSchema>['functions'][number];
export type TaskDocument = z.infer<typeof taskDocumentSchema>;
export type TaskState = z.infer<typeof taskStateSchema>;
export type Submission = z.infer<typeof submissionSchema>;
export type SubmissionSummary = z.infer<typeof submissionListSchema>['submissions'][number];
export type GroupResults = z.infer<typeof groupResultsSchema>;
export type IdentityGroup = z.infer<typeof groupSchema>;
export type IdentityDocument = z.infer<typeof identityListSchema>['identities'][number];

/** One call with plain JSON arguments. */
export interface CallRequest {
  functionId: string;
  args?: readonly unknown[];
  kwargs?: Readonly<Record<string, unknown>>;
}

export interface SubmitOptions extends CallPolicy {
  /** The tasks join this group; a new group otherwise. */
  taskGroupId?: string;
  /** Results also go to the group's queue, for a reader over AMQP. Default: false. */
  createQueue?: boolean;
  /** What a stock endpoint reads of a resource specification. */
  resourceSpecification?: Record<string, unknown>;
  /** The same key and content is accepted once. Default: a fresh one, so that a repeated request does no harm. */
  idempotencyKey?: string;
}

export interface Submitted {
  taskGroupId: string;
  /** In the order of the calls. */
  taskIds: string[];
}

/** A call that is packed already: the function and the text of its arguments. */
export interface PackedCall {
  functionId: string;
  payload: string;
}

/** Plain JSON where a result has that form; else Python's own, which comes back as an opaque value. */
const RESULT_SERIALIZERS = [JSON_RESULT_SERIALIZER, 'globus_compute_sdk.serialize.DillDataBase64'];
const LONG_POLL_S = 20;
/** Beside the time that the service holds a request. */
const POLL_SLACK_MS = 15_000;

/**
 * A client of one service for one identity. It holds no state but its token, and keeps no process alive; `close` ends its
 * connections.
 */
export class Client {
  /** How integers beyond 2^53 in results are read. */
  readonly integers: 'refuse' | 'bigint';
  readonly #http: ServiceHttp;

  /** Options that are not given come from FUNCX_API_URL, FUNCX_CLIENT_ID, FUNCX_CLIENT_SECRET and FUNCX_CA. */
  constructor(options: ClientOptions = {}) {
    const resolved = resolveOptions(options);
    this.integers = resolved.integers;
    this.#http = new ServiceHttp(resolved);
  }

  /** Registers a function; every call makes a new id. */
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
      ...(options.public === undefined ? {} : { public: options.public }),
      ...(options.groupId === undefined ? {} : { group: options.groupId }),
      ...(policy === undefined ? {} : { policy }),
    };
    // A repeat of unknown outcome costs an id that nobody uses.
    const answer = await this.request({ method: 'POST', path: '/v3/functions', body, mayRepeat: true });
    return (answer as { function_uuid: string }).function_uuid;
  }

  /** Your functions, newest first. */
  async functions(filter: { name?: string } = {}): Promise<FunctionSummary[]> {
    return (await this.#get('/v1/functions', functionListSchema, filter)).functions;
  }

  async function(id: string): Promise<FunctionDocument> {
    return this.#get(`/v2/functions/${encodeURIComponent(id)}`, functionDocumentSchema);
  }

  async deleteFunction(id: string): Promise<void> {
    await this.request({ method: 'DELETE', path: `/v2/functions/${encodeURIComponent(id)}` });
  }

  /** Your endpoints, or with `any` all that you may see. */
  async endpoints(filter: { role?: 'owner' | 'any' } = {}): Promise<EndpointDocument[]> {
    return this.#get('/v2/endpoints', endpointDocumentSchema.array(), filter);
  }

  async endpoint(id: string): Promise<EndpointDocument> {
    return this.#get(`/v2/endpoints/${encodeURIComponent(id)}`, endpointDocumentSchema);
  }

  async endpointStatus(id: string): Promise<EndpointStatus> {
    return this.#get(`/v2/endpoints/${encodeURIComponent(id)}/status`, endpointStatusSchema);
  }

  /** Its agent stops, its open tasks fail. */
  async deleteEndpoint(id: string): Promise<void> {
    await this.request({ method: 'DELETE', path: `/v2/endpoints/${encodeURIComponent(id)}` });
  }

  /** Submits calls for one endpoint, all or none; repeated on trouble, and accepted once all the same. */
  async submit(endpointId: string, calls: readonly CallRequest[], options: SubmitOptions = {}): Promise<Submitted> {
    const packed = calls.map(({ functionId, args, kwargs }) => ({ functionId, payload: packJsonArguments(args ?? [], kwargs) }));
    return this.submitPacked(endpointId, packed, options);
  }

  /** As {@link submit}, for arguments that are packed already. */
  async submitPacked(endpointId: string, calls: readonly PackedCall[], options: SubmitOptions = {}): Promise<Submitted> {
    const tasks: Record<string, string[]> = {};
    // The answer has one list of ids per function; each call remembers its place in it.
    const places = calls.map(({ functionId, payload }) => ({ functionId, at: (tasks[functionId] ??= []).push(payload) - 1 }));
    const policy = wirePolicy(options);
    const specification = { ...options.resourceSpecification, ...(policy ? { funcx: policy } : {}) };
    const answer = await this.#ask(
      {
        method: 'POST',
        path: `/v3/endpoints/${encodeURIComponent(endpointId)}/submit`,
        body: {
          create_queue: options.createQueue ?? false,
          tasks,
          result_serializers: RESULT_SERIALIZERS,
          user_runtime: {},
          ...(options.taskGroupId === undefined ? {} : { task_group_id: options.taskGroupId }),
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

  /** A task's state, with its result or exception as they went over the wire. Waits up to `waitS` (30 at most) for its end. */
  async task(id: string, { waitS = 0, signal }: { waitS?: number; signal?: AbortSignal } = {}): Promise<TaskState> {
    return this.#ask(
      {
        method: 'GET',
        path: `/v1/tasks/${encodeURIComponent(id)}`,
        query: { wait_s: waitS },
        timeoutMs: waitS * 1000 + POLL_SLACK_MS,
        ...(signal ? { signal } : {}),
      },
      taskStateSchema,
    );
  }

  /** The states of many tasks, by id; unknown ids are left out. */
  async batchStatus(ids: readonly string[]): Promise<Record<string, TaskDocument>> {
    const answer = await this.request({ method: 'POST', path: '/v2/batch_status', body: { task_ids: ids }, mayRepeat: true });
    return (answer as { results: Record<string, TaskDocument> }).results;
  }

  /** Waits for a task and returns its value; a failed one throws a TaskError. Aborting the signal ends the waiting only. */
  async result<Result = unknown>(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<Result> {
    for (;;) {
      signal?.throwIfAborted();
      const task = await this.task(id, { waitS: LONG_POLL_S, ...(signal ? { signal } : {}) });
      if (!isEndState(task.state)) continue;
      if (task.result !== undefined) return valueOf(task.result, this) as Result;
      throw taskErrorOf(id, task.error_code, task.exception ?? 'The task failed without saying why.');
    }
  }

  /** Cancels a task that has no answer yet; false when it had one. */
  async cancelTask(id: string): Promise<boolean> {
    return (await this.#cancel(`/v1/tasks/${encodeURIComponent(id)}`)) > 0;
  }

  /** Cancels the open tasks of a submission; returns how many. */
  async cancelSubmission(id: string): Promise<number> {
    return this.#cancel(`/v1/submissions/${encodeURIComponent(id)}`);
  }

  /** Cancels the open tasks of a task group; returns how many. */
  async cancelGroup(taskGroupId: string): Promise<number> {
    return this.#cancel(`/v1/taskgroups/${encodeURIComponent(taskGroupId)}`);
  }

  /** Your submissions, newest first. */
  async submissions(filter: { endpointId?: string; state?: SubmissionState; limit?: number } = {}): Promise<SubmissionSummary[]> {
    const query = { endpoint: filter.endpointId, state: filter.state, limit: filter.limit };
    return (await this.#get('/v1/submissions', submissionListSchema, query)).submissions;
  }

  /** A submission with the counts of its tasks by state. */
  async submission(id: string): Promise<Submission> {
    return this.#get(`/v1/submissions/${encodeURIComponent(id)}`, submissionSchema);
  }

  /** Ids of the tasks of a group, sorted: by the time of their request, then by their place in it. */
  async groupTaskIds(taskGroupId: string): Promise<string[]> {
    const group = await this.#get(`/v2/taskgroup/${encodeURIComponent(taskGroupId)}`, taskGroupSchema);
    return group.tasks.map(({ id }) => id).sort();
  }

  /** Results of a group after a cursor (0 at first); with `waitS` (30 at most) the answer comes when there is one. */
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
        ...(signal ? { signal } : {}),
      },
      groupResultsSchema,
    );
  }

  /** Results of a group as server-sent events, until the signal aborts. */
  async groupEvents(taskGroupId: string, after: number, signal: AbortSignal): Promise<IncomingMessage> {
    const path = `/v1/taskgroups/${encodeURIComponent(taskGroupId)}/events`;
    return this.#http.stream({ method: 'GET', path, query: { after }, headers: { accept: 'text/event-stream' }, signal });
  }

  /** Where results are read over AMQP: address, private authority, and what a queue's name begins with. */
  async resultsConnection(): Promise<z.infer<typeof resultConnectionSchema>> {
    return this.#get('/v2/get_amqp_result_connection_url', resultConnectionSchema, { client: 'funcx' });
  }

  /** Administrators: makes an identity. Its secret is shown here, once. */
  async createIdentity(
    name: string,
    options: { clientId?: string; clientSecret?: string; isAdmin?: boolean } = {},
  ): Promise<z.infer<typeof createdIdentitySchema>> {
    const body = {
      name,
      is_admin: options.isAdmin ?? false,
      ...(options.clientId === undefined ? {} : { client_id: options.clientId }),
      ...(options.clientSecret === undefined ? {} : { client_secret: options.clientSecret }),
    };
    return this.#ask({ method: 'POST', path: '/v1/identities', body }, createdIdentitySchema);
  }

  /** Administrators: all identities. */
  async identities(): Promise<IdentityDocument[]> {
    return (await this.#get('/v1/identities', identityListSchema)).identities;
  }

  /** Administrators: revokes an identity, by name or id. */
  async revokeIdentity(nameOrId: string): Promise<string> {
    const answer = await this.request({ method: 'DELETE', path: `/v1/identities/${encodeURIComponent(nameOrId)}` });
    return (answer as { client_id: string }).client_id;
  }

  /** Makes a group of identities; you are its owner. */
  async createGroup(name: string): Promise<IdentityGroup> {
    return this.#ask({ method: 'POST', path: '/v1/groups', body: { name } }, groupSchema);
  }

  /** Groups that you own or are a member of. */
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

  /** A request of your own to the service, with token and retries. */
  async request(request: HttpRequest): Promise<unknown> {
    return this.#http.request(request);
  }

  /** Ends its connections, and with them what is still asked. The client may be used again. */
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
      `The answer to ${request.method} ${request.path} is not understood; are client and service of the same release?`,
      { cause: parsed.error },
    );
  }
}
