import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { tasksKey, type AcceptRequest } from '../../accepting/accept-request';
import { createApp } from '../../api/app';
import { createAudit } from '../../api/audit';
import { COMPUTE_RESOURCE_SERVER } from '../../api/auth/scopes';
import type { ApiDeps } from '../../api/deps';
import { createGroupWatch } from '../../api/group-watch';
import { createTaskBatches } from '../../api/task-batch';
import type { Command } from '../../contracts/frames';
import type { AuditEntry } from '../../contracts/http/v1-identities';
import { makeSubmissionId, taskIdOf } from '../../contracts/ids';
import type { Identity } from '../../platform/access';
import { readConfig, type Config } from '../../platform/config';
import type { Identities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { readLastSeqs } from '../../platform/store/tasks';
import type { UnansweredRequest } from '../../platform/store/unanswered-requests';

/** The API's app with fakes of everything behind it, and a client for it. */

export const TOKEN_KEY = 'ab'.repeat(32);

export const configFor = (extra: Record<string, string> = {}): Config =>
  readConfig({
    DATABASE_URL: 'postgres://nowhere.invalid/none',
    AMQP_URL: 'amqp://nowhere.invalid/funcx',
    AMQP_MANAGEMENT_URL: 'http://nowhere.invalid',
    FUNCX_TOKEN_KEY: TOKEN_KEY,
    ...extra,
  });

type Rows = Record<string, unknown>[];

/** Answers statements by a piece of their text or their name; every other one fails the test. */
export class FakeDatabase {
  readonly #answers: { piece: string; rows: (values: unknown[]) => Rows | Promise<Rows> }[] = [];

  on(piece: string, rows: Rows | ((values: unknown[]) => Rows | Promise<Rows>)): this {
    this.#answers.unshift({ piece, rows: typeof rows === 'function' ? rows : () => rows });
    return this;
  }

  async query(
    statement: string | { name?: string; text: string; values?: unknown[] },
    values: unknown[] = [],
  ): Promise<{ rows: Rows; rowCount: number }> {
    const { name = '', text, values: given = values } = typeof statement === 'string' ? { text: statement } : statement;
    const answer = this.#answers.find(({ piece }) => name === piece || text.includes(piece));
    if (!answer) throw new Error(`the test has no answer for: ${name || text}`);
    const rows = await answer.rows(given);
    return { rows, rowCount: rows.length };
  }

  asDatabase(): Database {
    return this as unknown as Database;
  }
}

export const person = (name: string, extra: Partial<Identity> = {}): Identity => ({
  id: '00000000-0000-4000-8000-' + Buffer.from(name.padEnd(6, '_').slice(0, 6)).toString('hex'),
  name,
  isAdmin: false,
  groups: new Set(),
  resourceServer: COMPUTE_RESOURCE_SERVER,
  ...extra,
});

/** Knows each given identity by the token `token-<name>`. */
function fakeIdentities(people: readonly Identity[]): Identities {
  const unused = (): never => {
    throw new Error('not part of this test');
  };
  return {
    ensureBootstrap: unused,
    create: unused,
    list: unused,
    find: unused,
    findMany: unused,
    findTokens: unused,
    revoke: unused,
    issueTokens: async (_id, wanted) => wanted.map((one, index) => ({ ...one, token: `fx_${index}` })),
    revokeToken: unused,
    authenticateClient: async (id, secret) => people.find((one) => one.id === id && secret === `secret of ${one.name}`),
    authenticate: async (token) => people.find((one) => token === `token-${one.name}`),
    ofProviderUser: unused,
    forget: () => undefined,
  };
}

export interface Answer {
  status: number;
  headers: Headers;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  body: any;
}

export interface ApiHarness {
  url: string;
  accepted: AcceptRequest[];
  /** Responses that were lost: the next request without a key counts as the repeat of the first of them. */
  lost: unknown[];
  commands: { endpointId: string; command: Command }[];
  stop: AbortController;
  /** A request of the identity called `who`; without one, no token is sent. */
  request(
    who: string | undefined,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer>;
  close(): Promise<void>;
}

export async function startApi(options: {
  db: Database;
  people?: readonly Identity[];
  config?: Config;
  deps?: Partial<ApiDeps>;
  /** Default: a free one. */
  port?: number;
}): Promise<ApiHarness> {
  const { db, people = [person('alice')], config = configFor() } = options;
  const log = createLogger('api-test', 'silent');
  const stop = new AbortController();
  const groupWatch = createGroupWatch((ids) => readLastSeqs(db, ids), log);
  const accepted: AcceptRequest[] = [];
  const lost: unknown[] = [];
  const commands: ApiHarness['commands'] = [];
  const audited = new Set<string>();
  const audit = createAudit(auditDatabase(audited), log, 1);
  /** Refusals that the audit log must have, by request ID. */
  const refused = new Map<string, string>();
  const app = createApp({
    config,
    log,
    db,
    identities: fakeIdentities(people),
    brokerUsers: {
      renewAgent: async (endpointId) => `amqp://agent-${endpointId}:secret@broker/funcx`,
      revokeEndpoint: async () => undefined,
      resultsUrl: async (ownerId) => `amqps://results-${ownerId}:secret@broker/funcx`,
      revokeOwner: async () => undefined,
      revokeToken: async () => undefined,
      sweepExpired: async () => 0,
    },
    payloadCodecs: [],
    stockQueues: {
      declareCommands: async () => undefined,
      declareTasks: async () => undefined,
      emptyTasks: async () => undefined,
      hasNoResults: async () => true,
    },
    endpointUsers: {
      renewCore: async (id) => ({
        command: { name: `command-${id}`, url: `amqps://command-${id}:secret@broker/funcx` },
        heartbeat: { name: `heartbeat-${id}`, url: `amqps://heartbeat-${id}:secret@broker/funcx` },
      }),
      revokeCommand: async () => undefined,
      userEndpoint: async (id) => ({ name: `user-${id}`, url: `amqps://user-${id}:secret@broker/funcx` }),
    },
    placement: { place: async ({ endpointId }) => endpointId, wake: () => undefined },
    repeats: {
      entry: entryOf,
      store: (_entry, _of, work) => work(),
      record: async () => undefined,
      abandon: () => undefined,
      forget: async () => undefined,
      hasLost: async () => lost.length > 0,
      takeLost: async <T>(bodyHash: Buffer) =>
        lost.length === 0 ? undefined : { entry: entryOf(bodyHash), response: lost.shift() as T },
      beforeAnswer: async () => undefined,
      takeOver: async () => undefined,
      close: () => undefined,
    },
    queues: {
      declare: async () => undefined,
      hasListener: async () => false,
      hasConsumer: async () => false,
      delete: async () => undefined,
    },
    groupQueues: { ensure: async () => undefined },
    accept: async (request) => {
      accepted.push(request);
      const submissionId = makeSubmissionId(Date.now(), new Uint8Array(7));
      let index = 0;
      return {
        requestId: '99999999-9999-4999-8999-999999999999',
        taskGroupId: request.taskGroupId ?? '88888888-8888-4888-8888-888888888888',
        tasks: Object.fromEntries(
          request.calls.map((call) => [
            tasksKey(call.functionId, call.target?.endpoint.id),
            call.payloads.map(() => taskIdOf(submissionId, ++index)),
          ]),
        ),
      };
    },
    quotas: {
      requireRoomForEndpoint: async () => undefined,
      requireRoomForUserEndpoint: async () => undefined,
      requireRoomForSchedule: async () => undefined,
      requireRoomForRun: async () => undefined,
      requireRoomForFunction: async () => undefined,
      reserveTaskGroup: async () => () => undefined,
      reserveBytes: async () => () => undefined,
      enterSocket: () => () => undefined,
      followGroup: () => ({ setKnown: () => undefined, leave: () => undefined }),
      usage: async () => [],
    },
    audit,
    cancel: async () => ({ cancelled: 0 }),
    requeue: async () => true,
    schedules: {
      create: async () => undefined,
      read: async () => undefined,
      pause: async () => undefined,
      trigger: async () => undefined,
      backfill: async () => undefined,
      times: async () => [],
      delete: async () => undefined,
    },
    flowStarts: { start: async () => true, cancel: async () => true },
    latestRunOf: async () => undefined,
    readiness: async () => ({}),
    brokerAuthority: undefined,
    groupWatch,
    taskBatches: createTaskBatches(db),
    revocations: { watch: () => () => undefined, close: () => undefined },
    onEndpointDeleted: async () => undefined,
    sendCommand: async (endpointId, command) => void commands.push({ endpointId, command }),
    stopping: stop.signal,
    ...options.deps,
  });
  const server: Server = app.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    accepted,
    lost,
    commands,
    stop,
    async request(who, method, path, body, headers = {}) {
      const isRaw = typeof body === 'string' || body instanceof URLSearchParams || body instanceof Uint8Array;
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(who === undefined ? {} : { authorization: `Bearer token-${who}` }),
          ...(body === undefined || isRaw ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? undefined : isRaw ? (body as string) : JSON.stringify(body),
      });
      const text = await response.text();
      const isJson = response.headers.get('content-type')?.includes('json') ?? false;
      const isOfRoute = !text.includes('does not exist; see /openapi.json');
      if (REFUSALS.has(response.status) && isOfRoute && options.deps?.audit === undefined) {
        refused.set(response.headers.get('x-request-id') ?? '', `${method} ${path}: ${response.status} ${text}`);
      }
      return { status: response.status, headers: response.headers, body: isJson ? (JSON.parse(text) as unknown) : text };
    },
    async close() {
      stop.abort();
      groupWatch.close();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await audit.close();
      for (const [id, what] of refused) if (!audited.has(id)) throw new Error(`the audit log lacks a refusal: ${what}`);
    },
  };
}

const entryOf = (bodyHash: Buffer): UnansweredRequest => ({
  id: randomUUID(),
  bodyHash,
  listener: 'test',
  process: randomUUID(),
});

const REFUSALS = new Set([401, 403, 404, 409, 413, 415, 422, 423, 429]);

/** Remembers the requests of audit entries. */
const auditDatabase = (requestIds: Set<string>): Database =>
  new FakeDatabase()
    .on('insert-audit', ([entries]) => {
      for (const { request_id } of JSON.parse(String(entries)) as AuditEntry[]) requestIds.add(request_id);
      return [];
    })
    .on('delete from audit_entries', [])
    .asDatabase();
