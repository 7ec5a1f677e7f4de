import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from '@temporalio/client';
import type { Pool } from 'pg';

import { submissionIdOf } from '../../contracts/ids';
import { QUEUE, tasksQueueName } from '../../contracts/names';
import { countsOf, freeze } from '../helpers/engine-faults';
import { printFigure } from '../helpers/figures';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Http, localEndpoint, openStore, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Temporal holds its connections and answers nobody. What does not need it goes on at its usual pace. */

const SUBMISSIONS = 200;

const http = new Http();
let store: Pool;
let temporal: { client: Client; close(): Promise<void> };
let same: string;
let thaw: (() => void) | undefined;

beforeAll(async () => {
  store = openStore();
  temporal = await openTemporal();
  same = await http.register('same', '(n) => n', 'javascript');
  const taskId = await http.submitOne(localEndpoint(), same, [0]);
  await http.value(taskId);
});
afterEach(() => {
  thaw?.();
  thaw = undefined;
});
afterAll(async () => {
  await store.end();
  await temporal.close();
});

async function expectCompleted(taskIds: readonly string[], deadlineMs: number): Promise<void> {
  for (const id of new Set(taskIds.map(submissionIdOf))) {
    const handle = temporal.client.workflow.getHandle(await workflowIdOf(id));
    await until(`the workflow of ${id} completes`, async () => (await handle.describe()).status.name === 'COMPLETED', {
      deadlineMs,
    });
  }
}

test('while Temporal is silent, a submit is answered after a short try, and the sweep starts it within 5 s of the return', async () => {
  thaw = freeze('temporal');
  const tookMs: number[] = [];
  const taskIds: string[] = [];
  for (let n = 0; n < 5; n++) {
    const sentMs = Date.now();
    const { taskIds: accepted } = await http.submit(localEndpoint(), same, [[n]]);
    tookMs.push(Date.now() - sentMs);
    taskIds.push(...accepted);
  }
  printFigure(`submits while Temporal is silent: ${tookMs.join(', ')} ms`);
  // The first ones find out that Temporal is silent; the later ones know.
  expect(Math.max(...tookMs)).toBeLessThan(6_000);
  expect(Math.max(...tookMs.slice(2))).toBeLessThan(1_000);
  thaw();
  const backMs = Date.now();
  expect(await Promise.all(taskIds.map((id) => http.value(id)))).toEqual([0, 1, 2, 3, 4]);
  const seconds = (Date.now() - backMs) / 1_000;
  printFigure(`all of them answered ${seconds} s after its return`);
  expect(seconds).toBeLessThan(10); // 5 s until the sweep starts them, and a busy machine
  await expectCompleted(taskIds, 30_000);
}, 240_000);

test('while Temporal is silent, results of finished submissions are acknowledged once, and a new result does not wait for them', async () => {
  const endpoint = await new StockEndpoint(new StockClient(await globusVenv()), 'silent').configure();
  try {
    await endpoint.start();
    const source =
      'def until_file(n, path):\n    import os, time\n    while not os.path.exists(path):\n        time.sleep(0.02)\n    return n\n';
    const untilFile = await http.register('until_file', source);
    const folder = mkdtempSync(join(tmpdir(), 'funcx-silent-'));
    const [first, second] = [join(folder, 'first'), join(folder, 'second')];
    const submit = async (n: number, file: string): Promise<string> => await http.submitOne(endpoint.id, untilFile, [n, file]);
    // Both workers wait for the first file: everything else is dispatched before the silence and answered within it.
    const taskIds: string[] = [];
    for (let n = 0; n < SUBMISSIONS; n += 10) {
      taskIds.push(...(await Promise.all(Array.from({ length: 10 }, (_, index) => submit(n + index, first)))));
    }
    const untilDispatched = (ids: readonly string[]): Promise<unknown> =>
      until('everything is dispatched', async () => {
        const { rows } = await store.query(`select 1 from tasks where id = any ($1) and state = 'waiting'`, [ids]);
        return rows.length === 0;
      });
    await untilDispatched(taskIds);
    // The endpoint gets it as the last one: a worker that waits for the second file holds nothing else up.
    const late = await submit(-1, second);
    await untilDispatched([late]);
    // What is claimed is sent by a step of its workflow, which the silence would hold up.
    await until('everything is sent', async () => {
      const { rows } = await store.query<{ id: string }>(
        'select id from endpoint_queues where endpoint_id = $1 and owner_id is not null',
        [endpoint.id],
      );
      return (await countsOf(tasksQueueName(rows[0]!.id))).published > SUBMISSIONS;
    });
    const before = await countsOf(QUEUE.results);

    thaw = freeze('temporal');
    writeFileSync(first, '');
    expect(await Promise.all(taskIds.map((id) => http.value(id, 90_000)))).toEqual(taskIds.map((_, n) => n));
    const writtenMs = Date.now();
    writeFileSync(second, '');
    expect(await http.value(late, 60_000)).toBe(-1);
    const tookMs = Date.now() - writtenMs;
    printFigure(`a new result beside ${SUBMISSIONS} of finished submissions: ${tookMs} ms`);
    expect(tookMs).toBeLessThan(5_000);
    await until(
      'the results queue is empty',
      async () => {
        const { messages, published } = await countsOf(QUEUE.results);
        return published > before.published + SUBMISSIONS && messages === 0;
      },
      { deadlineMs: 40_000, everyMs: 1_000 },
    );
    expect((await countsOf(QUEUE.results)).redelivered - before.redelivered).toBeLessThan(SUBMISSIONS / 10);
    thaw();
    await expectCompleted([...taskIds, late], 90_000);
  } finally {
    await endpoint.stop();
  }
}, 400_000);
