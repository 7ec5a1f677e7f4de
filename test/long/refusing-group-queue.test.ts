import { randomUUID } from 'node:crypto';

import type { Pool } from 'pg';

import { groupQueueName } from '../../contracts/names';
import { countsOf } from '../helpers/engine-faults';
import { admin, Http, localEndpoint, management, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** One submitter's queue refuses every message, because it is full or its node is away. The others must not notice. */

const TASKS = 40;
const POLICY = 'policies/funcx/refuse-one-group';

const http = new Http();
let store: Pool;
beforeAll(() => {
  store = openStore();
});
afterAll(async () => {
  await management(POLICY, { method: 'DELETE' });
  await store.end();
});

test('a task group whose queue refuses messages keeps no other group waiting and multiplies none of its messages', async () => {
  const [healthy, refusing] = [randomUUID(), randomUUID()];
  const healthyQueue = groupQueueName(admin().client_id, healthy);
  const refusingQueue = groupQueueName(admin().client_id, refusing);
  const definition = { 'max-length': 1, overflow: 'reject-publish' };
  const policy = { pattern: `^${refusingQueue.replaceAll('.', '\\.')}$`, definition, 'apply-to': 'queues', priority: 100 };
  await management(POLICY, { method: 'PUT', body: JSON.stringify(policy) });

  const same = await http.register('same', '(n) => n', 'javascript');
  // Small requests in turn, so that results of both groups come in the same batches.
  const ids: { healthy: string[]; refusing: string[] } = { healthy: [], refusing: [] };
  for (let n = 0; n < TASKS; n += 8) {
    const calls = Array.from({ length: 8 }, (_, index) => [n + index]);
    const [one, other] = await Promise.all(
      [healthy, refusing].map((group) => http.submit(localEndpoint(), same, calls, { task_group_id: group, create_queue: true })),
    );
    ids.healthy.push(...one!.taskIds);
    ids.refusing.push(...other!.taskIds);
  }
  await Promise.all([...ids.healthy, ...ids.refusing].map((id) => http.value(id)));

  await until('every answer of the healthy group is marked delivered', async () => {
    const { rows } = await store.query('select 1 from tasks where id = any ($1) and delivered_at is null', [ids.healthy]);
    return rows.length === 0;
  });
  // The sweep tries the refused answers again every few seconds: it must not take the others with it.
  await until('the refused answers were tried again', async () => {
    const { rows } = await store.query<{ age: number }>(
      'select extract(epoch from now() - max(answered_at))::float8 as age from tasks where id = any ($1)',
      [ids.refusing],
    );
    return rows[0]!.age > 15;
  });
  expect(await countsOf(healthyQueue)).toMatchObject({ published: TASKS, messages: TASKS });

  await management(POLICY, { method: 'DELETE' });
  await until(
    'the other group is delivered once its queue takes messages',
    async () => {
      const { rows } = await store.query('select 1 from tasks where id = any ($1) and delivered_at is null', [ids.refusing]);
      return rows.length === 0;
    },
    { deadlineMs: 60_000 },
  );
}, 180_000);
