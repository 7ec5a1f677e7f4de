import { randomUUID } from 'node:crypto';

import { Client, Connection } from '@temporalio/client';
import { Pool } from 'pg';

import { WORKFLOW } from '../../contracts/names';
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
/** At most, until one of them is dispatched by the process with the fail point. */
const SUBMISSIONS = 20;
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
let functionId: string;

beforeAll(async () => {
  system = await OwnSystem.start();
  await Promise.all([system.run('api'), system.run('workers')]);
  await system.run('endpoint');
  store = new Pool({ connectionString: system.variables.DATABASE_URL, max: 2 });
  functionId = await system.register('triple', 'function triple(x) { return x * 3; }', 'javascript');
}, 120_000);
afterAll(async () => {
  await store.end();
  await system.stop();
}, 60_000);

const request: OwnSystem['request'] = (...args) => system.request(...args);

/**
 * Submits one after another until the process has died. When the server does not grant an eager start, another process
 * dispatches, and the one with the fail point passes it at a later submission.
 */
async function submitUntil(ended: Promise<void>, submit: () => Promise<void>): Promise<void> {
  let isEnded = false;
  const death = ended.then(() => void (isEnded = true));
  for (let n = 0; n < SUBMISSIONS && !isEnded; n++) {
    const done = submit().catch(() => death); // the process may die before it answers
    await Promise.race([death, done]);
  }
  expect(isEnded).toBe(true);
}

async function untilDone(groupId: string): Promise<void> {
  await until('the submission is done', async () => {
    const { rows } = await store.query(`select 1 from submissions where task_group_id = $1 and state = 'done'`, [groupId]);
    return rows.length === 1;
  });
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

  const payloads = Array.from({ length: TASKS }, (_, n) => packJsonArguments([n]));
  const body = { tasks: { [functionId]: payloads }, create_queue: true, result_serializers: [JSON_RESULT_SERIALIZER] };
  let submitted: ReturnType<typeof request> | undefined;
  await submitUntil(ended, async () => {
    // As our clients do: the same key until there is an answer.
    const key = randomUUID();
    submitted = until(
      'the submission is accepted',
      () => request('POST', `/v3/endpoints/${system.endpointId()}/submit`, body, { 'idempotency-key': key }),
      { deadlineMs: RECOVERY_MS },
    );
    await untilDone((await submitted).task_group_id as string);
  });
  const diedMs = Date.now();
  await system.run(name);

  const { task_group_id: groupId, tasks } = (await submitted)!; // submitUntil submitted at least once
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
              (select in_flight from endpoint_queues where id = $2) as places
         from submissions s where s.task_group_id = $1`,
      [groupId, system.endpointId()],
    );
    return rows.length === 1 && rows[0]?.state === 'done' && rows[0].undelivered === 0 && rows[0].places === 0;
  });
});

/** The first request is accepted by itself; those that meet it are accepted together, and there the process dies. */
test.each(['accept-bodies', 'accept-start', 'accept-answer'] as const)(
  'after a death at %s of requests that are accepted together, each is answered once',
  async (point) => {
    await system.end('api');
    const { ended } = await system.run('api', { FUNCX_TEST_BUILD: '1', FUNCX_FAIL_POINT: `${point}:2` });
    await until('the endpoint of the shared submissions is online', async () => {
      return (await request('GET', `/v2/endpoints/${system.endpointId()}/status`)).status === 'online';
    });
    const groupId = randomUUID();
    const answers = Array.from({ length: TASKS }, async (_, n) => {
      const key = randomUUID();
      const tasks = { [functionId]: [packJsonArguments([n])] };
      const body = { tasks, task_group_id: groupId, create_queue: true, result_serializers: [JSON_RESULT_SERIALIZER] };
      const path = `/v3/endpoints/${system.endpointId()}/submit`;
      const send = (): ReturnType<typeof request> => request('POST', path, body, { 'idempotency-key': key });
      const reply = await until('the request is accepted', send, { deadlineMs: RECOVERY_MS });
      return reply as { tasks: Record<string, string[]> };
    });
    const all = Promise.all(answers);
    all.catch(() => undefined); // awaited below, after the death
    await ended;
    await system.run('api');

    const taskIds = (await all).map(({ tasks }) => tasks[functionId]?.[0] ?? '');
    const results = await until(
      'every request has its result',
      async () => {
        const page = await request('GET', `/v1/taskgroups/${groupId}/results?after=0&limit=1000`);
        return page.results.length >= TASKS ? (page.results as { task_id: string; result: string }[]) : undefined;
      },
      { deadlineMs: RECOVERY_MS },
    );
    const values = new Map(results.map((one) => [one.task_id, JSON.parse(splitBuffer(one.result).body) as unknown]));
    expect(taskIds.map((id) => values.get(id))).toEqual(taskIds.map((_, n) => n * 3));
    expect(results).toHaveLength(TASKS);
    await until('every submission of the group is done', async () => {
      const { rows } = await store.query<{ n: number; places: number }>(
        `select count(*)::integer as n, (select in_flight from endpoint_queues where id = $2) as places
           from submissions where task_group_id = $1 and state = 'done' and finished_at is not null`,
        [groupId, system.endpointId()],
      );
      return rows[0]?.n === TASKS && rows[0].places === 0;
    });
  },
);

/** Without a key, the workflow starts while the bodies are stored, and the insert claims the tasks where there is room. */
test.each(['accept-bodies', 'accept-start', 'accept-answer', 'claim-commit', 'first-publish', 'last-publish'] as const)(
  'a small request without a key is answered once after a death at %s',
  async (point) => {
    const calls = 3;
    await system.end('api');
    const { ended } = await system.run('api', { FUNCX_TEST_BUILD: '1', FUNCX_FAIL_POINT: point });
    await until('the endpoint of the small request is online', async () => {
      return (await request('GET', `/v2/endpoints/${system.endpointId()}/status`)).status === 'online';
    });
    const payloads = Array.from({ length: calls }, (_, n) => packJsonArguments([n]));
    const tasks = { [functionId]: payloads };
    let groupId = '';
    await submitUntil(ended, async () => {
      groupId = randomUUID();
      const body = { tasks, task_group_id: groupId, create_queue: true, result_serializers: [JSON_RESULT_SERIALIZER] };
      await request('POST', `/v3/endpoints/${system.endpointId()}/submit`, body);
      await untilDone(groupId);
    });
    await system.run('api');

    await until(
      'the stored request is answered and done',
      async () => {
        const { rows } = await store.query<{ answered: number; tasks: number; submissions: number; places: number }>(
          `select count(*) filter (where t.state = 'succeeded')::integer as answered, count(*)::integer as tasks,
                  (select count(*)::integer from submissions s where s.task_group_id = $1 and s.state = 'done') as submissions,
                  (select in_flight from endpoint_queues where id = $2) as places
             from tasks t where t.task_group_id = $1`,
          [groupId, system.endpointId()],
        );
        const [row] = rows;
        return row?.tasks === calls && row.answered === calls && row.submissions === 1 && row.places === 0;
      },
      { deadlineMs: RECOVERY_MS },
    );
    const { results } = await request('GET', `/v1/taskgroups/${groupId}/results?after=0&limit=1000`);
    const values = (results as { result: string }[]).map(({ result }) => JSON.parse(splitBuffer(result).body) as number);
    expect(values.sort((a, b) => a - b)).toEqual([0, 3, 6]);
  },
);

test('a workflow ends when its process died before the submission was stored', async () => {
  const connection = await Connection.connect({ address: system.variables.TEMPORAL_ADDRESS ?? '' });
  const client = new Client({ connection, namespace: system.variables.TEMPORAL_NAMESPACE ?? 'default' });
  const groupId = randomUUID();
  const holder = await store.connect();
  try {
    await holder.query('begin');
    await holder.query('lock table submissions in share row exclusive mode'); // inserts wait
    const body = { tasks: { [functionId]: [packJsonArguments([1])] }, task_group_id: groupId, create_queue: true };
    const sent = request('POST', `/v3/endpoints/${system.endpointId()}/submit`, body).catch(() => undefined);
    const workflowId = await until('the workflow runs', async () => {
      for await (const run of client.workflow.list({
        query: `WorkflowType = '${WORKFLOW.submission}' and ExecutionStatus = 'Running'`,
      })) {
        return run.workflowId;
      }
      return undefined;
    });
    await system.end('api', 'SIGKILL');
    await sent;
    await holder.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and query like '%accept_submission%'`,
    );
    await holder.query('rollback');
    await system.run('api');
    const result = await client.workflow.getHandle(workflowId).result();
    expect(result).toEqual({ state: 'done', counts: {} });
    const { rows } = await store.query('select 1 from submissions where task_group_id = $1', [groupId]);
    expect(rows).toEqual([]);
  } finally {
    holder.release();
    await connection.close();
  }
}, 120_000);
