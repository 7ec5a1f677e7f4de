import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Pool } from 'pg';

import { QUEUE, tasksQueueName } from '../../contracts/names';
import { countsOf, freeze, prefetchOf } from '../helpers/engine-faults';
import { printFigure } from '../helpers/figures';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Http, openStore, pidOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Large results in large numbers: what `workers` and the API hold of them is bounded by bytes, not by the number of results. */

const TASKS = 250;
const CHARS = 900_000;
/** Without a bound it was 700 MB for the results and 890 MB for their answer. */
const MAX_GROWTH_MB = 400;
const GIGABYTE_WINDOW = 500;
const SMALL_RESULTS = 300;
/** Of the receive window, in messages. */
const FIRST_WINDOW = 64;

const http = new Http();
let store: Pool;
let endpoint: StockEndpoint;
let thaw: (() => void) | undefined;

beforeAll(async () => {
  store = openStore();
  endpoint = await new StockEndpoint(new StockClient(await globusVenv()), 'large').configure();
  await endpoint.start();
}, 300_000);
afterEach(() => thaw?.());
afterAll(async () => {
  await endpoint?.stop();
  await store.end();
});

/** From now on the highest resident memory is counted anew. */
function resetPeak(part: 'api' | 'workers'): number {
  writeFileSync(`/proc/${pidOf(part)}/clear_refs`, '5');
  return peakMb(part);
}

function peakMb(part: 'api' | 'workers'): number {
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pidOf(part)}/status`, 'utf8'))?.[1]) / 1024);
}

const SOURCE = `def large(path, chars):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.05)
    return "x" * chars
`;

test('250 results of 0.9 MB that arrive together, and one question for all of them, are held a part at a time', async () => {
  const large = await http.register('large', SOURCE);
  // Many small results: a consumer that kept the large window they allow would get every large one at once.
  const small = await http.submit(
    endpoint.id,
    large,
    Array.from({ length: SMALL_RESULTS }, () => [tmpdir(), 1]),
  );
  for (const id of small.taskIds) await http.value(id, 90_000);
  await until('workers asks for as few results as at its start', async () => (await prefetchOf(QUEUE.results)) <= FIRST_WINDOW);
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-large-')), 'go');
  const { taskIds: first } = await http.submit(endpoint.id, large, [[tmpdir(), 1]]);
  await http.value(first[0]!, 90_000); // its user endpoint is up
  await store.query('update endpoint_queues set window_floor = $2, window_size = $2 where endpoint_id = $1', [
    endpoint.id,
    GIGABYTE_WINDOW,
  ]);
  const calls = Array.from({ length: TASKS }, () => [file, CHARS]);
  const { taskIds } = await http.submit(endpoint.id, large, calls);
  const { rows } = await store.query<{ id: string }>('select endpoint_queue_id as id from tasks where id = $1', [taskIds[0]]);
  const queue = tasksQueueName(rows[0]!.id);
  await until('every task is published', async () => (await countsOf(queue)).published > TASKS, { everyMs: 500 });

  thaw = freeze('workers');
  writeFileSync(file, '');
  await until('every result is in the queue', async () => (await countsOf(QUEUE.results)).messages >= TASKS, {
    deadlineMs: 120_000,
    everyMs: 1_000,
  });
  const before = resetPeak('workers');
  thaw();
  await until(
    'every task is answered',
    async () => {
      const { rows } = await store.query('select 1 from tasks where id = any ($1) and answered_at is null', [taskIds]);
      return rows.length === 0;
    },
    { deadlineMs: 120_000 },
  );
  const grown = peakMb('workers') - before;
  printFigure(`workers grew by ${grown} MB for ${TASKS} results of ${CHARS} characters`);
  expect(grown).toBeLessThan(MAX_GROWTH_MB);

  const apiBefore = resetPeak('api');
  const { results } = await http.ok('POST', '/v2/batch_status', { task_ids: taskIds });
  const apiGrown = peakMb('api') - apiBefore;
  printFigure(`the API grew by ${apiGrown} MB for one answer with all of them`);
  expect(Object.keys(results as object)).toHaveLength(TASKS);
  for (const id of taskIds) expect((results[id] as { result: string }).result.length).toBeGreaterThan(CHARS);
  expect(apiGrown).toBeLessThan(MAX_GROWTH_MB / 2);
}, 400_000);
