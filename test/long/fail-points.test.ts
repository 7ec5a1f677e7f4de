import { randomUUID } from 'node:crypto';

import { Pool } from 'pg';

import { packJsonArguments, splitBuffer, JSON_RESULT_SERIALIZER } from '../../contracts/packing';
import { FAIL_POINTS, type FailPoint } from '../../platform/fail-points';
import { OwnSystem, type OurProcess } from '../helpers/own-system';
import { until } from '../helpers/until';

/**
 * The process dies, as if killed, exactly where random kills do not hit: every task is answered with its value, every answer
 * is stored once, and nobody waits for longer than 30 s.
 */

const TASKS = 20;
const RECOVERY_MS = 30_000;
/** Where a point is passed: accept and the first dispatch (eager start) in `api`, completion in `workers`. */
const WHERE: Record<FailPoint, OurProcess> = {
  'accept-bodies': 'api',
  'accept-start': 'api',
  'accept-answer': 'api',
  'claim-commit': 'api',
  'first-publish': 'api',
  'last-publish': 'api',
  store: 'workers',
  deliver: 'workers',
  nudge: 'workers',
  'before-ack': 'workers',
};

let system: OwnSystem;
let store: Pool;
let token: string;
let functionId: string;

beforeAll(async () => {
  system = await OwnSystem.start();
  await Promise.all([system.run('api'), system.run('workers')]);
  await system.run('endpoint');
  store = new Pool({ connectionString: system.variables.DATABASE_URL, max: 2 });
  const { client_id, client_secret } = system.credentials;
  const scope = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
  const answer = await request('POST', `/v2/oauth2/token`, new URLSearchParams({ grant_type: 'client_credentials', scope }), {
    authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}`,
  });
  token = answer.access_token;
  const code = { function_name: 'triple', function_code: 'function triple(x) { return x * 3; }', language: 'javascript' };
  functionId = (await request('POST', '/v3/functions', { ...code, serialized: false, meta: {} })).function_uuid;
}, 120_000);
afterAll(async () => {
  await store.end();
  await system.stop();
}, 60_000);

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
async function request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<any> {
  const isForm = body instanceof URLSearchParams;
  const response = await fetch(system.state.api_url + path, {
    method,
    headers: { ...(isForm ? {} : { 'content-type': 'application/json' }), authorization: `Bearer ${token}`, ...headers },
    body: body === undefined ? undefined : isForm ? body : JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

test('every fail point has its test', () => {
  expect(Object.keys(WHERE).sort()).toEqual([...FAIL_POINTS].sort());
});

test.each([...FAIL_POINTS])('after a death at %s everything is answered, once and in time', async (point) => {
  const name = WHERE[point];
  await system.end(name);
  const { ended } = await system.run(name, { FUNCX_TEST_BUILD: '1', FUNCX_FAIL_POINT: point });
  await until('the endpoint is online', async () => {
    return (await request('GET', `/v2/endpoints/${system.endpointId()}/status`)).status === 'online';
  });

  // As our clients do: the same key until there is an answer.
  const key = randomUUID();
  const payloads = Array.from({ length: TASKS }, (_, n) => packJsonArguments([n]));
  const body = { tasks: { [functionId]: payloads }, create_queue: true, result_serializers: [JSON_RESULT_SERIALIZER] };
  const submitted = until(
    'the submission is accepted',
    () => request('POST', `/v3/endpoints/${system.endpointId()}/submit`, body, { 'idempotency-key': key }),
    { deadlineMs: RECOVERY_MS },
  );
  submitted.catch(() => undefined); // awaited below, after the death
  await ended;
  const diedMs = Date.now();
  await system.run(name);

  const { task_group_id: groupId, tasks } = await submitted;
  const taskIds = tasks[functionId] as string[];
  const results = await until(
    'every task is answered',
    async () => {
      const page = await request('GET', `/v1/taskgroups/${groupId}/results?after=0&limit=1000`);
      return page.results.length >= TASKS ? (page.results as { task_id: string; result: string; seq: number }[]) : undefined;
    },
    { deadlineMs: RECOVERY_MS },
  );
  expect(Date.now() - diedMs).toBeLessThan(RECOVERY_MS);
  const values = new Map(results.map((one) => [one.task_id, JSON.parse(splitBuffer(one.result).body) as unknown]));
  expect(taskIds.map((id) => values.get(id))).toEqual(payloads.map((_, n) => n * 3));
  expect(results.map((one) => one.seq)).toEqual(payloads.map((_, n) => n + 1));
  await until('it is finished, delivered and counted', async () => {
    const { rows } = await store.query<{ state: string; undelivered: number; places: number }>(
      `select s.state, (select count(*)::integer from tasks t where t.task_group_id = $1 and t.delivered_at is null) as undelivered,
              (select in_flight from task_queues where id = $2) as places
         from submissions s where s.task_group_id = $1`,
      [groupId, system.endpointId()],
    );
    return rows.length === 1 && rows[0]?.state === 'done' && rows[0].undelivered === 0 && rows[0].places === 0;
  });
});
