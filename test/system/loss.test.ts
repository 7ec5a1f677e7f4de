import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Agent, Http, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** What an agent acknowledged and lost is found by its heartbeats, and dispatched again. */

const http = new Http();
const dir = mkdtempSync(join(tmpdir(), 'funcx-loss-'));
const SLOW_ONCE =
  'def slow_once(path):\n    import os, time\n    with open(path, "a") as f:\n        f.write("x")\n' +
  '    if len(open(path).read()) == 1:\n        time.sleep(600)\n    return "ok"';

test('an attempt that was acknowledged early and lost with its agent runs again on the next one', async () => {
  // Acknowledged at once, so that the broker has nothing to deliver again.
  const agent = await new Agent('loss', { FUNCX_WORKERS: '1', FUNCX_ACK_WITHIN_MS: '100' }).start();
  const slow = await http.register('slow_once', SLOW_ONCE);
  const taskId = await http.submitOne(agent.id, slow, [join(dir, 'lost')]);
  await until('it runs', async () => (await http.task(taskId)).state === 'running');
  await until('the broker has forgotten it', async () => {
    const store = openStore();
    const { rows } = await store.query<{ old: boolean }>(
      `select dispatched_at < now() - interval '3 seconds' as old from tasks where id = $1`,
      [taskId],
    );
    await store.end();
    return rows[0]?.old ?? false;
  });
  await agent.stop('SIGKILL');
  await agent.start();
  expect(await http.value(taskId, 40_000)).toBe('ok');
  const store = openStore();
  const { rows } = await store.query('select attempt, losses from tasks where id = $1', [taskId]);
  expect(rows).toEqual([{ attempt: 2, losses: 1 }]);
  const queue = await store.query('select in_flight from endpoint_queues where id = $1', [agent.id]);
  expect(queue.rows).toEqual([{ in_flight: 0 }]);
  await store.end();
  expect(readFileSync(join(dir, 'lost'), 'utf8')).toBe('xx');
  await agent.stop();
});
