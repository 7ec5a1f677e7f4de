import type { Pool } from 'pg';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { isAlive, management, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** The life of the stock endpoint and its user endpoints, beyond the core that is in `test/system`. */

let client: StockClient;
let endpoint: StockEndpoint;
let store: Pool;

beforeAll(async () => {
  store = openStore();
  client = new StockClient(await globusVenv());
  endpoint = await new StockEndpoint(client, 'life').configure();
  await endpoint.start();
}, 300_000);
afterAll(async () => {
  await endpoint?.stop();
  await store.end();
});

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
    const { rows } = await store.query(
      `select id from endpoint_queues where endpoint_id = $1 and config @> '{"heartbeat_period": 6}'`,
      [endpoint.id],
    );
    expect(rows).toHaveLength(1);
  });

  test('a running user endpoint takes replaced credentials when it has to connect again, and carries on', async () => {
    const others = endpoint.userPids(); // of other configurations; one of them ends while it is idle
    await client.script('many.py', [endpoint.id, '1', '0']);
    const pid = endpoint.userPids().find((one) => !others.includes(one));
    if (pid === undefined) throw new Error('no user endpoint was started');
    const before = await currentUser();
    // As if their time was over: the next command brings new ones, and the old ones live on for a while.
    await store.query(
      `update broker_users set created_at = created_at - interval '2 days'
        where purpose = 'user-endpoint' and endpoint_queue_id in (select id from endpoint_queues where endpoint_id = $1)`,
      [endpoint.id],
    );
    const after = await until('a new credential was made', async () => {
      await client.script('many.py', [endpoint.id, '1', '0']);
      const name = await currentUser();
      return name === before ? undefined : name;
    });
    await until('nothing is connected with the old one', async () => {
      for (const { name } of await connectionsOf(before)) {
        await management(`connections/${encodeURIComponent(name)}`, { method: 'DELETE' });
      }
      return (await connectionsOf(before)).length === 0;
    });
    await until('it is connected with the new one', async () => (await connectionsOf(after)).length > 0);
    expect((await client.script('many.py', [endpoint.id, '5', '0'])).values).toEqual(squares(5));
    expect(endpoint.userPids()).toContain(pid);
  });
});

/** The broker user that start commands name now, of the user endpoint with the default configuration. */
async function currentUser(): Promise<string> {
  const { rows } = await store.query<{ name: string }>(
    `select u.name from broker_users u join endpoint_queues q on q.id = u.endpoint_queue_id
      where q.endpoint_id = $1 and q.config = '{}' and u.purpose = 'user-endpoint' and u.expires_at is null`,
    [endpoint.id],
  );
  return rows[0]?.name ?? '';
}

async function connectionsOf(user: string): Promise<{ name: string }[]> {
  const all = (await management('connections')) as { name: string; user: string }[];
  return all.filter((connection) => connection.user === user);
}
