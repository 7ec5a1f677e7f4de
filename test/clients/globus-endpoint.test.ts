import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { isAlive, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** The life of the stock endpoint and its user endpoints, beyond the core that is in `test/system`. */

let client: StockClient;
let endpoint: StockEndpoint;

beforeAll(async () => {
  client = new StockClient(await globusVenv());
  endpoint = await new StockEndpoint(client, 'life').configure();
  await endpoint.start();
}, 300_000);
afterAll(() => endpoint?.stop());

const squares = (n: number): number[] => Array.from({ length: n }, (_, i) => i * i);

describe('the stock endpoint', () => {
  test('a user endpoint that ended idle runs again for the next task', async () => {
    const config = JSON.stringify({ idle_soft: 1 });
    expect((await client.script('many.py', [endpoint.id, '2', '0', config])).values).toEqual([0, 1]);
    const [pid] = endpoint.userPids();
    if (pid === undefined) throw new Error('no user endpoint runs');
    // It is started again by itself when it ends within 30 s of the last command; only then it stays away.
    await until('the user endpoint ended idle', () => !isAlive(pid), { deadlineMs: 100_000 });
    expect((await client.script('many.py', [endpoint.id, '3', '0', config])).values).toEqual([0, 1, 4]);
  });

  test('each configuration has a user endpoint of its own, however its keys are ordered', async () => {
    await client.script('many.py', [endpoint.id, '1', '0', '{"heartbeat_period": 6, "idle_soft": 0}']);
    await client.script('many.py', [endpoint.id, '1', '0', '{"idle_soft": 0, "heartbeat_period": 6}']);
    const store = openStore();
    try {
      const { rows } = await store.query(
        `select id from task_queues where endpoint_id = $1 and config @> '{"heartbeat_period": 6}'`,
        [endpoint.id],
      );
      expect(rows).toHaveLength(1);
    } finally {
      await store.end();
    }
  });

  test('the process pool engine gives the same values', async () => {
    const config = JSON.stringify({ engine: 'ProcessPoolEngine' });
    expect((await client.script('many.py', [endpoint.id, '20', '0', config])).values).toEqual(squares(20));
  });

  test('credentials that were replaced reach a running user endpoint, which carries on', async () => {
    await client.script('many.py', [endpoint.id, '1', '0']);
    const pids = endpoint.userPids();
    const store = openStore();
    try {
      // As if their time was over: the next command brings new ones, and only then the old ones go.
      await store.query(
        `update broker_users set created_at = created_at - interval '2 days'
          where purpose = 'user-endpoint' and task_queue_id in (select id from task_queues where endpoint_id = $1)`,
        [endpoint.id],
      );
      await until('a new credential was made', async () => {
        await client.script('many.py', [endpoint.id, '1', '0']);
        const { rows } = await store.query(
          `select name from broker_users where purpose = 'user-endpoint' and expires_at is not null
              and task_queue_id in (select id from task_queues where endpoint_id = $1)`,
          [endpoint.id],
        );
        return rows.length > 0;
      });
      expect((await client.script('many.py', [endpoint.id, '5', '0'])).values).toEqual(squares(5));
      expect(endpoint.userPids()).toEqual(expect.arrayContaining(pids.slice(0, 1)));
    } finally {
      await store.end();
    }
  });
});
