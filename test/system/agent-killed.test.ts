import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Executor, python } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { Agent } from '../helpers/system';
import { until } from '../helpers/until';

const TASKS = 500;
const WORKERS = 2;
/** Two a worker, and those whose results wait for the broker's confirm (endpoint/agent.ts). */
const IN_HAND = 2 * WORKERS + 32;

test('kill -9 of the agent amid 500 tasks loses none, and only those in its hands may run twice', async () => {
  const client = sdkClient();
  const agent = await new Agent('agent-killed', { FUNCX_WORKERS: String(WORKERS) }).start();
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-lines-')), 'lines');
  const executor = new Executor({ client, endpointId: agent.id });
  const append = python<number>(
    'def append(n, path):\n    import time\n    time.sleep(0.004)\n    with open(path, "a") as f:\n        f.write(f"{n}\\n")\n    return n + 1000\n',
  );
  const numbers = Array.from({ length: TASKS }, (_, n) => n);
  const futures = numbers.map((n) => executor.submit(append, n, file));
  const lines = (): number[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').map(Number) : []);
  await until('a third of the tasks has run', () => lines().length > TASKS / 3, { everyMs: 10 });
  await agent.stop('SIGKILL');
  expect(lines().length).toBeLessThan(TASKS);
  await agent.start();

  expect(await Promise.all(futures)).toEqual(numbers.map((n) => n + 1000));
  await executor.close();
  const ran = lines();
  expect([...new Set(ran)].sort((a, b) => a - b)).toEqual(numbers);
  expect(ran.length - TASKS).toBeLessThanOrEqual(IN_HAND);
  await agent.stop();
  client.close();
});
