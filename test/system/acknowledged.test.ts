import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { QUEUE } from '../../contracts/names';
import { Http, localEndpoint, management } from '../helpers/system';
import { until } from '../helpers/until';

/** What nobody sees as long as everything lives: that each call runs once, and that results leave the broker for good. */

const CALLS = 40;
const SOURCE = 'def note(path, n):\n    with open(path, "a") as f:\n        f.write(f"{n}\\n")\n    return n\n';

/** Acknowledged messages, each of which may be a batch of results, and messages that the broker still has. */
async function resultQueue(): Promise<{ acknowledged: number; kept: number }> {
  const queue = await management(`queues/funcx/${encodeURIComponent(QUEUE.results)}`);
  return { acknowledged: (queue.message_stats?.ack as number | undefined) ?? 0, kept: queue.messages as number };
}

test('in peace each call runs once, and every result is acknowledged once it is stored', async () => {
  const http = new Http();
  const before = await resultQueue();
  const functionId = await http.register('note', SOURCE);
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-once-')), 'lines');
  const { taskIds } = await http.submit(
    localEndpoint(),
    functionId,
    Array.from({ length: CALLS }, (_, n) => [file, n]),
  );
  const values = await Promise.all(taskIds.map((id) => http.value(id)));
  expect(values).toEqual(Array.from({ length: CALLS }, (_, n) => n));
  const lines = readFileSync(file, 'utf8').trim().split('\n').map(Number);
  expect(lines.sort((a, b) => a - b)).toEqual(values);
  await until('the broker has no result any more', async () => {
    const { acknowledged, kept } = await resultQueue();
    return acknowledged > before.acknowledged && kept === 0;
  });
});
