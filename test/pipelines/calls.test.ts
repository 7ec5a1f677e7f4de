import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from '@temporalio/client';

import { buildExamples, numpyFolder, testWorker } from '../helpers/pipelines';
import { Agent, isAlive, killAndWait, openTemporal, pidOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Calls from workflows: values, failures, references, cancellation, and what a watcher sees. */

const worker = testWorker();
const one = new Agent(`one-${process.pid}`, { FUNCX_WORKERS: '2' });
const two = new Agent(`two-${process.pid}`, { FUNCX_WORKERS: '2' });
let temporal: { client: Client; close(): Promise<void> };

/** Two compilations and the starts of agents, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  buildExamples();
  temporal = await openTemporal();
  const env = { PYTHONPATH: numpyFolder() };
  await Promise.all([one.start(env), two.start(env)]);
  worker.start();
}, BUILD_MS);

afterAll(async () => {
  await worker.stop();
  await Promise.all([one.stop(), two.stop()]);
  await temporal.close();
});

const start = (type: string, args: unknown[]) =>
  temporal.client.workflow.start(type, { taskQueue: 'test-pipelines', workflowId: `${type}-${randomUUID()}`, args });
const run = async (type: string, args: unknown[]): Promise<unknown> => (await start(type, args)).result();

async function detailsOf(workflowId: string): Promise<string> {
  return temporal.client.workflow
    .getHandle(workflowId)
    .query<string>('__temporal_workflow_metadata')
    .then((metadata) => JSON.stringify(metadata));
}

const memoryOf = (pid: number): number => {
  const match = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) / 1024;
};

async function eventsOf(workflowId: string): Promise<{ count: number; children: string[] }> {
  const { events } = await temporal.client.workflow.getHandle(workflowId).fetchHistory();
  const children = (events ?? []).flatMap((event) => {
    const child = event.startChildWorkflowExecutionInitiatedEventAttributes?.workflowId;
    return child ? [child] : [];
  });
  return { count: events?.length ?? 0, children };
}

test('a map of 2,000 calls is one child with few submissions, the values in order, and few events of its pipeline', async () => {
  await one.freeze();
  const handle = await start('squares', [one.name, 0, 2_000]);
  try {
    const counts = /square x2000.*on.*: ([\d,]+ waiting, )?\d+ sent to the agent, 2 running \[submission/;
    await until('its details count the calls', async () => counts.test(await detailsOf(handle.workflowId)), {
      deadlineMs: 60_000,
    });
  } finally {
    one.thaw(); // the tests that follow need it
  }
  const values = (await handle.result()) as number[];
  expect(values).toEqual(Array.from({ length: 2_000 }, (_, n) => n * n));
  const pipeline = await eventsOf(handle.workflowId);
  expect(pipeline.count).toBeLessThan(400);
  expect(pipeline.children).toHaveLength(1);
  const call = await eventsOf(pipeline.children[0]!); // one, as just seen
  expect(call.children.length).toBeGreaterThan(0);
  expect(call.children.length).toBeLessThanOrEqual(4);
});

test('the details of a pipeline say which calls run, which wait for whom since when, which failed, each with a link', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-held-'));
  const [started, file] = [join(folder, 'started'), join(folder, 'go')];
  await two.stop();
  await two.untilOffline();
  const handle = await start('watched', [one.name, two.name, started, file]);
  const wanted = [
    /\*\*until\\_file\*\* on \*\*one-\d+\*\*: running \[submission\]\((\S+)\)/,
    /\*\*square\*\* on \*\*two-\d+\*\* \(offline since \d{4}-\d\d-\d\dT[\d:.]+Z\): waiting \[submission\]\((\S+)\)/,
    /\*\*square\*\* on \*\*one-\d+\*\* failed: .*no root of -1.*\[(?:submission|call)\]\((\S+)\)/,
  ];
  const links = await until('the details say it all', async () => {
    const { currentDetails } = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    const found = wanted.map((line) => line.exec(currentDetails)?.[1]);
    return found.every((link) => link !== undefined) ? found : undefined;
  });
  // The page of the UI is the workflow of the submission, whose parent is the call; a short call is linked itself.
  const calls = links.map(async (link) => {
    const workflowId = decodeURIComponent(link.split('/').at(-1) ?? '');
    const { parentExecution } = await temporal.client.workflow.getHandle(workflowId).describe();
    return workflowId.startsWith('submission/') ? parentExecution?.workflowId : workflowId;
  });
  expect(await Promise.all(calls)).toEqual(['busy', 'away', 'failed'].map((id) => `${handle.workflowId}/${id}`));
  writeFileSync(file, '');
  await two.start({ PYTHONPATH: numpyFolder() });
  expect(await handle.result()).toEqual(['there', 144]);
});

test('a failed call is a typed failure with the remote traceback, which the author can catch', async () => {
  expect(await run('caught', [one.name])).toEqual({
    code: 'RemoteExecutionError',
    exception: 'ValueError',
    traceback: expect.stringContaining('no root of -1'),
    type: 'FuncXTaskError',
  });
});

test('a map that fails fast fails with the first failure', async () => {
  await expect(run('squares', [one.name, -1, 3])).rejects.toMatchObject({
    cause: { type: 'FuncXTaskError', message: expect.stringContaining('no root of -1') },
  });
});

test('a map that collects all says for each call whether it has a value', async () => {
  expect(await run('squares', [one.name, -1, 2, -1])).toMatchObject([
    { ok: false, failure: { index: 0, exception: 'ValueError' } },
    { ok: true, value: 0 },
    { ok: true, value: 1 },
  ]);
});

test('a map tolerates a share of failures, and not more', async () => {
  expect(await run('squares', [one.name, -1, 3, 25])).toHaveLength(4);
  expect(await run('tooMany', [one.name])).toEqual({ failed: 2, total: 4 });
});

test('any picklable value flows from one endpoint to another, exactly', async () => {
  expect(await run('oddBetween', [one.name, two.name])).toBe("[{'point': (1, 2), 'of': {3}, 'z': 1j}, 5]");
});

test('a call to an endpoint that stays offline fails when its author said so', async () => {
  const away = new Agent(`never-${process.pid}`);
  await away.start();
  await away.stop();
  await away.untilOffline();
  expect(await run('impatient', [away.name])).toContain('was offline for more than 2 s');
});

test('a cancelled pipeline cancels its calls, and they stop on the endpoint', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-held-'));
  const started = join(folder, 'started');
  const handle = await start('heldUp', [one.name, two.name, started, join(folder, 'never')]);
  await until('the call runs', () => existsSync(started));
  await handle.cancel();
  await expect(handle.result()).rejects.toThrow(/cancelled/i);
  const call = temporal.client.workflow.getHandle(`${handle.workflowId}/busy`);
  await until('the call is cancelled', async () => (await call.describe()).status.name === 'CANCELLED');
  await until('the function is stopped', () => !isAlive(Number(readFileSync(started, 'utf8'))));
});

test('the worker of the author and ours are killed while one call runs and one waits; the pipeline ends with its value', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-held-'));
  const [started, file] = [join(folder, 'started'), join(folder, 'go')];
  await two.stop();
  await two.untilOffline();
  const handle = await start('heldUp', [one.name, two.name, started, file]);
  await until('one call runs', () => existsSync(started));
  await until('the other is seen to wait', async () =>
    /offline since [^)]+\): waiting /.test(await detailsOf(handle.workflowId)),
  );
  await worker.stop('SIGKILL');
  await killAndWait('workers');
  worker.start();
  writeFileSync(file, '');
  await two.start({ PYTHONPATH: numpyFolder() });
  expect(await handle.result()).toEqual(['there', 144]);
});

test('an array of 50 MB passes between two endpoints by reference, and no worker holds it', async () => {
  const bytes = 50_000_000;
  await run('arrayBetween', [one.name, two.name, 1_000]);
  const before = [memoryOf(worker.pid), memoryOf(pidOf('workers'))] as const;
  const handle = await start('arrayBetween', [one.name, two.name, bytes]);
  let most = [...before];
  const watch = setInterval(() => {
    most = [Math.max(most[0]!, memoryOf(worker.pid)), Math.max(most[1]!, memoryOf(pidOf('workers')))];
  }, 100);
  const result = (await handle.result().finally(() => clearInterval(watch))) as Record<string, unknown>;
  expect(result.there).toEqual(result.here);
  expect(result.there).toMatchObject({ size: bytes, type: 'ndarray' });
  expect(result.array).toMatchObject({ $funcx: 'ref' });
  const growth = most.map((mb, index) => Math.round(mb - before[index]!));
  expect(growth).toEqual([expect.any(Number), expect.any(Number)]);
  expect(Math.max(...growth)).toBeLessThan(30);
  expect((await handle.describe()).historySize).toBeLessThan(100_000);
});
