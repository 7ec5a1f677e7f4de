import { readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { Agent as HttpAgent, request } from 'node:http';

import { connect } from 'amqplib';
import fc from 'fast-check';
import { WebSocket } from 'ws';

import { EXCHANGE, QUEUE, resultKey, statusKey } from '../../contracts/names';
import { Http, localEndpoint, management, pidOf, serviceEnv, state, type Credentials } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * Input that nobody should send, by somebody who may send it: over HTTP with a valid token, over AMQP with the credentials of
 * an endpoint of their own, and over the results socket. No crash, no 5xx, and somebody else's calls beside it go on.
 */
const HTTP_CASES = 10_000;
const AMQP_CASES = 3_000;
const SOCKET_CASES = 300;
const PARALLEL = 16;
/** The same cases again: FUNCX_TEST_SEED=<what a failed run printed>. */
const SEED = Number(process.env.FUNCX_TEST_SEED ?? Date.now() % 1_000_000_000);

interface Case {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: Buffer;
}

const admin = new Http();
let mallory: Http;
let pids: Record<string, number>;
let call: () => Promise<unknown>;

beforeAll(async () => {
  mallory = new Http((await admin.ok('POST', '/v1/identities', { name: `mallory-${randomUUID()}` })) as Credentials);
  const add = await admin.register('add', 'def add(a, b):\n    return a + b\n');
  let n = 0;
  call = async () => {
    const [a, b] = [n++, 7];
    const taskId = await admin.submitOne(localEndpoint(), add, [a, b]);
    expect(await admin.value(taskId)).toBe(a + b);
  };
  pids = { api: pidOf('api'), workers: pidOf('workers'), endpoint: pidOf('endpoint') };
  await call();
});

/** Calls of somebody else, one after the other, until the given work is done; all have the right value. */
async function beside(work: Promise<unknown>): Promise<number> {
  let isDone = false;
  void work.finally(() => (isDone = true)).catch(() => undefined);
  let calls = 0;
  do {
    await call();
    calls++;
  } while (!isDone);
  await work;
  return calls;
}

afterEach(async () => {
  await call();
  expect({ api: pidOf('api'), workers: pidOf('workers'), endpoint: pidOf('endpoint') }).toEqual(pids);
});

const garbage = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom('', '%', '%00', '%ff', '..', '*', "' or 1=1 --", '🙂', 'null', '-1', '1e999', 'x'.repeat(5_000)),
);
const identifier = fc.oneof(garbage, fc.uuid(), fc.constantFrom(localEndpointOrNone(), '00000000-0000-0000-0000-000000000000'));

/** Half of a surrogate pair becomes a replacement character: no client could send it. */
const wellFormed = (text: string): string => Buffer.from(text).toString();

function localEndpointOrNone(): string {
  return process.env.FUNCX_TEST_DATA_DIR === undefined ? '' : localEndpoint();
}

/** Keys that the routes look for, with values of every type, so that some cases come far. */
const KEYS = [
  ...['function_name', 'function_code', 'serialized', 'language', 'tasks', 'task_group_id', 'create_queue', 'user_runtime'],
  ...['endpoint_name', 'endpoint_uuid', 'meta', 'metadata', 'version', 'task_ids', 'func', 'name', 'incarnation', 'workers'],
  ...['grant_type', 'scope', 'token', 'group', 'policy', 'public', 'result_serializers', 'resource_specification', 'location'],
];
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  identifier,
  fc.constantFrom(null, true, 0, -1, 1e308, [], {}, [[]], ['a', 'b', 'c'], '\u0000', '\ud800', '__proto__'),
  fc.array(fc.tuple(fc.uuid(), fc.uuid(), fc.string()), { maxLength: 3 }),
  fc.dictionary(fc.oneof(fc.uuid(), fc.constant('__proto__')), fc.array(fc.string(), { maxLength: 3 }), { maxKeys: 3 }),
);
const body = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.dictionary(fc.constantFrom(...KEYS), value, { maxKeys: 8 }).map((v) => Buffer.from(JSON.stringify(v))),
  },
  { weight: 2, arbitrary: fc.json().map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: fc.json().map((text) => Buffer.from(text.slice(0, -1))) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 1, arbitrary: fc.constant(Buffer.from('['.repeat(20_000))) },
);
const headers = fc.record(
  {
    'content-type': fc.constantFrom(
      'application/json',
      'application/x-www-form-urlencoded',
      'text/plain',
      'nonsense',
      'application/json; charset=utf-99',
    ),
    'user-agent': fc.constantFrom(
      'globus-sdk-py-3.65.0/funcx-sdk-1.0.4',
      'globus-sdk-py-3.65.0/funcx-sdk-1.0.13',
      'Globus Compute SDK',
    ),
    'idempotency-key': fc.constantFrom('', 'same', 'x'.repeat(2_000)),
    traceparent: fc.constantFrom('00-zz', '', '0'.repeat(500)),
    authorization: fc.constantFrom('Bearer', 'Bearer x', 'Basic eDp5', 'nonsense'),
    'content-encoding': fc.constantFrom('gzip', 'br', 'nonsense'),
    range: fc.constantFrom('bytes=0-', 'bytes=9-1', 'x'),
    'last-event-id': fc.constantFrom('-1', 'x', '99999999999999999999'),
  },
  { requiredKeys: [] },
);

/** Every operation that is documented, and those of the funcX 1.0 release, which share their paths or have their own. */
async function operations(): Promise<{ method: string; path: string }[]> {
  const document = (await admin.ok('GET', '/openapi.json')) as { paths: Record<string, Record<string, unknown>> };
  const listed = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({ method, path })),
  );
  const release = [
    ...[
      { method: 'post', path: '/v2/endpoints' },
      { method: 'get', path: '/v2/endpoints/{id}/whitelist' },
    ],
    ...[
      { method: 'post', path: '/v2/endpoints/{id}/whitelist' },
      { method: 'delete', path: '/v2/endpoints/{id}/whitelist/{f}' },
    ],
    ...[
      { method: 'post', path: '/v2/containers' },
      { method: 'get', path: '/v2/containers/{id}/{type}' },
    ],
    ...[
      { method: 'post', path: '/v2/endpoints/{id}/lock' },
      { method: 'get', path: '/nowhere/{id}' },
    ],
  ];
  return [...listed, ...release];
}

async function send(
  agent: HttpAgent | undefined,
  token: string,
  { method, path, headers: extra, body: sent }: Case,
): Promise<number> {
  const { port } = new URL(state().api_url);
  return new Promise((resolve, reject) => {
    const req = request(
      { agent, port, path, method: method.toUpperCase(), headers: { authorization: `Bearer ${token}`, ...extra } },
      (res) => {
        res.resume();
        // An endless answer (server-sent events) is good with its first byte.
        if (String(res.headers['content-type']).includes('event-stream')) res.destroy();
        res.once('close', () => resolve(res.statusCode ?? 0));
      },
    );
    req.once('error', reject);
    req.end(sent);
  });
}

test(`${HTTP_CASES} malformed HTTP requests get no 5xx, and calls beside them are answered`, async () => {
  const token = await mallory.token();
  const cases = fc.sample(
    fc
      .record({
        operation: fc.constantFrom(...(await operations())),
        ids: fc.array(identifier, { minLength: 3, maxLength: 3 }),
        query: fc.option(
          fc.dictionary(fc.constantFrom('limit', 'after', 'wait_s', 'cursor', 'role', 'service', 'ids'), garbage, { maxKeys: 3 }),
        ),
        headers,
        body: fc.option(body, { freq: 4 }),
      })
      .map(({ operation, ids, query, headers: extra, body: sent }): Case => {
        let at = 0;
        // Well-formed or not, it must be a line that Node sends.
        const path = operation.path.replace(/\{[^}]+\}/g, () => escape(ids[at++] ?? ''));
        const search = query === null ? '' : `?${new URLSearchParams(query).toString()}`;
        return { method: operation.method, path: path + search, headers: extra, ...(sent === null ? {} : { body: sent }) };
      }),
    { numRuns: HTTP_CASES, seed: SEED },
  );
  const agent = new HttpAgent({ keepAlive: true, maxSockets: PARALLEL });
  const seen = new Map<number, number>();
  const failed: unknown[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) {
      // A body that nobody read ends its connection, maybe under the next request: that one is sent again on its own.
      const status = await send(agent, token, one).catch(() =>
        send(undefined, token, one).catch((error: Error) => error.message),
      );
      if (typeof status === 'number') seen.set(status, (seen.get(status) ?? 0) + 1);
      if (typeof status === 'number' && status >= 500) failed.push({ ...one, body: one.body?.toString().slice(0, 300), status });
      if (typeof status === 'string' && !/ECONNRESET|EPIPE|socket hang up/.test(status)) failed.push({ ...one, status });
    }
  };
  const calls = await beside(Promise.all(Array.from({ length: PARALLEL }, worker)));
  agent.destroy();
  expect({ seed: SEED, failed: failed.slice(0, 5), number: failed.length }).toEqual({ seed: SEED, failed: [], number: 0 });
  expect(calls).toBeGreaterThan(0);
  expect([...seen.values()].reduce((sum, n) => sum + n, 0)).toBeGreaterThan(HTTP_CASES * 0.99);
}, 600_000);

/** Percent signs and odd characters stay odd, but the request line stays a line. */
function escape(text: string): string {
  return text.replace(/[^!-~]|[#?]/gu, (c) => encodeURIComponent(wellFormed(c))) || '-';
}

test(`${AMQP_CASES} malformed messages of an agent end nobody else's work, and are put aside`, async () => {
  const registered = await mallory.ok('POST', '/v1/endpoints', { name: 'mallory', incarnation: randomUUID(), workers: 1 });
  const id = registered.endpoint_id as string;
  const ca = state().ca_file;
  const model = await connect(registered.broker.url as string, ca === null ? {} : { ca: [readFileSync(ca)] });
  const channel = await model.createConfirmChannel();
  const taskId = await admin.submitOne(localEndpoint(), await admin.register('f', 'def f():\n    return 1\n'), []);
  expect(await admin.value(taskId)).toBe(1);
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.json().map((text) => Buffer.from(text)),
    fc.json().map((text) => Buffer.from(`\u0001${text}`)),
    fc
      .record({
        message_type: fc.oneof(fc.constantFrom('result', 'ep_status_report', 'heartbeat', 'task'), garbage),
        data: fc.oneof(
          value,
          fc.record(
            { task_id: fc.oneof(identifier, fc.constant(taskId)), data: value, error_details: value, attempt: value },
            { requiredKeys: [] },
          ),
        ),
      })
      .map((frame) => Buffer.from(`\u0001${JSON.stringify(frame)}`)),
    // Well formed, but of a task that belongs to another endpoint.
    fc.constant(Buffer.from(JSON.stringify({ task_id: taskId, result: 'stolen', task_statuses: [] }))),
  );
  const messages = fc.sample(fc.record({ body: message, isStatus: fc.boolean(), type: fc.option(garbage) }), {
    numRuns: AMQP_CASES,
    seed: SEED,
  });
  const queued = async (): Promise<number> => {
    const { pathname } = new URL(serviceEnv('api').AMQP_URL ?? '');
    const depth = async (queue: string): Promise<number> => {
      const state = (await management(`queues${pathname}/${encodeURIComponent(queue)}`)) as { messages?: number };
      return state.messages ?? Infinity;
    };
    return (await depth(QUEUE.results)) + (await depth(QUEUE.status));
  };
  try {
    const calls = await beside(
      (async () => {
        for (const { body: sent, isStatus, type } of messages) {
          const [exchange, key] = isStatus ? [EXCHANGE.status, statusKey(id)] : [EXCHANGE.results, resultKey(id)];
          channel.publish(exchange, key, sent, type === null ? {} : { type: wellFormed(type).slice(0, 60) });
        }
        await channel.waitForConfirms();
        await until('the service has taken them all', async () => (await queued()) === 0, { deadlineMs: 120_000, everyMs: 500 });
      })(),
    );
    expect(calls).toBeGreaterThan(0);
    expect(await admin.value(taskId)).toBe(1); // what was answered stays so
  } finally {
    await model.close().catch(() => undefined);
  }
}, 600_000);

test(`${SOCKET_CASES} malformed messages and handshakes at the results socket leave it serving`, async () => {
  const token = await mallory.token();
  const sent = fc.sample(
    fc.record({
      path: fc.constantFrom('/v2', '/v2/', '/', '/v2/%00', '/v2?x=1'),
      authorization: fc.constantFrom(`Bearer ${token}`, 'Bearer x', 'nonsense'),
      messages: fc.array(fc.oneof(garbage, fc.uint8Array({ maxLength: 100 }), fc.constant('x'.repeat(10_000))), { maxLength: 5 }),
    }),
    { numRuns: SOCKET_CASES, seed: SEED },
  );
  await beside(
    (async () => {
      for (const { path, authorization, messages } of sent) {
        await new Promise<void>((resolve) => {
          const socket = new WebSocket(state().ws_url + path, { headers: { authorization } });
          socket.on('error', () => undefined); // a refused handshake, or a frame that is too large
          socket.once('open', () => {
            for (const one of messages) socket.send(typeof one === 'string' ? wellFormed(one) : one);
            if (messages.length === 0) socket.close();
          });
          socket.once('message', () => socket.close());
          socket.once('close', () => resolve());
        });
      }
    })(),
  );
  // One that behaves is served.
  const socket = new WebSocket(`${state().ws_url}/v2`, { headers: { authorization: `Bearer ${await admin.token()}` } });
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const add = await admin.register('f', 'def f():\n    return 1\n');
  const { groupId, taskIds } = await admin.submit(localEndpoint(), add, [[]]);
  const answer = new Promise<string>((resolve) => socket.once('message', (data: Buffer) => resolve(data.toString())));
  socket.send(groupId);
  expect(JSON.parse(await answer)).toMatchObject({ task_id: taskIds[0], status: 'success' });
  socket.close();
}, 600_000);
