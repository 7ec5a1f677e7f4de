import type { Pool } from 'pg';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { ownApi } from '../helpers/own-api';
import { localEndpoint, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** The released Globus Compute 4.19 SDK and endpoint, unmodified, against the running system: the core that `npm test` runs. */

let client: StockClient;
let endpoint: StockEndpoint;
let store: Pool;

beforeAll(async () => {
  store = openStore();
  client = new StockClient(await globusVenv());
  endpoint = await new StockEndpoint(client, 'core').configure();
  await endpoint.start();
}, 300_000);
afterAll(async () => {
  await endpoint?.stop();
  await store.end();
});

const squares = (n: number): number[] => Array.from({ length: n }, (_, i) => i * i);

/** How many tasks of the stock endpoint are in this state, of those made since. */
async function countTasks(state: string, since: Date): Promise<number> {
  const { rows } = await store.query<{ n: number }>(
    `select count(*)::integer as n from tasks t join endpoint_queues q on q.id = t.endpoint_queue_id
       join submissions s on s.id = submission_of(t.id)
      where q.endpoint_id = $1 and t.state = $2 and s.created_at >= $3`,
    [endpoint.id, state, since],
  );
  return rows[0]?.n ?? 0;
}

const EXPECTED = {
  add: 3,
  dill: ['tuple', 'set', 'bytes', 'complex'],
  failure: ['TaskExecutionFailed', expect.stringMatching(/Traceback[\s\S]*in fail[\s\S]*ValueError: no é today/)],
  large: 7_000_000,
  too_large: ['TaskExecutionFailed', expect.stringContaining('MaxResultSizeExceeded')],
  json_result: { a: [1, null, 'é'] },
  shell: [3, 'hello bob\n'],
  registered: 42,
  source: 42,
  many: Array.from({ length: 20 }, (_, i) => i + 100),
  task_ids: 20,
  reloaded: Array.from({ length: 20 }, (_, i) => i + 100),
  batch_run: [1, 2, 3],
  batch_result: [1, 2, 3],
  run: 11,
  all_code_strategies: 7,
  json_arguments: { k: [1, 2] },
  too_large_argument: ['ComputeAPIError', expect.stringContaining('PAYLOAD_TOO_LARGE')],
};

describe('the Globus Compute 4.19 clients', () => {
  test('our agent gives the stock SDK every value', async () => {
    expect(await client.script('values.py', [localEndpoint()])).toEqual(EXPECTED);
  });

  test('the stock endpoint gives the stock SDK the same values', async () => {
    expect(await client.script('values.py', [endpoint.id])).toEqual(EXPECTED);
  });

  test('the same call submitted fifty times has fifty ids and fifty values', async () => {
    const { ids, values } = await client.script('fifty.py', [localEndpoint(), '50']);
    expect(new Set(ids).size).toBe(50);
    expect(values).toEqual(Array(50).fill(42));
  });

  test.each(['accept-bodies', 'accept-start', 'accept-answer'])(
    'an API that is killed at %s, before it answers, runs the repeated submit once',
    async (point) => {
      const api = await ownApi({ FUNCX_FAIL_POINT: `${point}:2` });
      try {
        const twin = new StockClient(client.bin, client.credentials, api.url);
        const { ids, values, function_id } = await twin.script('fifty.py', [localEndpoint(), '4']);
        expect(api.deaths()).toBe(1);
        expect(new Set(ids).size).toBe(4);
        expect(values).toEqual(Array(4).fill(42));
        const { rows } = await store.query('select id from tasks where function_id = $1', [function_id]);
        expect(rows.map((row: { id: string }) => row.id).sort()).toEqual([...ids].sort());
      } finally {
        await api.close();
      }
    },
  );

  test('a user endpoint that is killed in the middle of 200 tasks loses none', async () => {
    const since = new Date();
    const submitted = client.script('many.py', [endpoint.id, '200', '0.05'], { timeoutMs: 110_000 });
    submitted.catch(() => undefined); // awaited below
    await until('some of the tasks are answered', async () => (await countTasks('succeeded', since)) >= 10);
    const [pid] = endpoint.userPids();
    if (pid === undefined) throw new Error('no user endpoint runs');
    process.kill(pid, 'SIGKILL');
    expect((await submitted).values).toEqual(squares(200));
    const { rows } = await store.query<{ most: number; lost: number }>(
      `select max(t.losses) as most, count(*) filter (where t.losses > 0)::integer as lost
         from tasks t join endpoint_queues q on q.id = t.endpoint_queue_id where q.endpoint_id = $1`,
      [endpoint.id],
    );
    expect(rows[0]?.most).toBe(1);
    expect(rows[0]?.lost).toBeLessThan(200);
  });

  test('what is submitted while the stock endpoint is stopped runs after its return', async () => {
    await endpoint.stop();
    await endpoint.untilStatus('offline');
    const since = new Date();
    const submitted = client.script('many.py', [endpoint.id, '50', '0'], { timeoutMs: 110_000 });
    submitted.catch(() => undefined); // awaited below
    await until('the tasks wait', async () => (await countTasks('waiting', since)) === 50);
    await endpoint.start();
    expect((await submitted).values).toEqual(squares(50));
  });

  test('a configuration that the template refuses fails its tasks with the reason', async () => {
    const { values } = await client.script('many.py', [endpoint.id, '2', '0', '{"engine": "NoSuchEngine"}']);
    expect(values).toEqual(Array(2).fill(expect.stringMatching(/TaskExecutionFailed[\s\S]*NoSuchEngine/)));
  });

  test('a remote stop ends the endpoint', async () => {
    const { status } = await client.run('globus-compute-endpoint', ['stop', '--remote', endpoint.name]);
    expect(status).toBe(0);
    expect(await endpoint.untilExit()).toBe(0);
    await endpoint.untilStatus('offline');
  });
});
