import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { QUEUE } from '../../contracts/names';
import { Http, localEndpoint, management } from '../helpers/system';
import { until } from '../helpers/until';

/** What nobody sees as long as everything lives: that each call runs once, and that results leave the broker for good. */

const CALLS = 40;
const SOURCE = 'def note(path, n):\n    with open(path, "a") as f:\n        f.write(f"{n}\\n")\n    return n\n';

const acknowledged = async (): Promise<number> => {
  const queue = await management(`queues/funcx/${encodeURIComponent(QUEUE.results)}`);
  return (queue.message_stats?.ack as number | undefined) ?? 0;
};

test('in peace each call runs once, and every result is acknowledged once it is stored', async () => {
  const http = new Http();
  const before = await acknowledged();
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
  await until('the broker counts the acknowledgements', async () => (await acknowledged()) >= before + CALLS);
});
