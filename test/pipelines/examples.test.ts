import type { Client } from '@temporalio/client';

import { buildExamples, exampleWorker, pythonWorker, replay, runExample, runPython, type Program } from '../helpers/pipelines';
import { Agent, localEndpoint, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

const REPLAY = `
import asyncio, os, sys
from temporalio.client import Client
from temporalio.worker import Replayer
from workflows import FitCurve
async def main():
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    history = await client.get_workflow_handle(sys.argv[1]).fetch_history()
    await Replayer(workflows=[FitCurve]).replay_workflow(history)
    print("replayed")
asyncio.run(main())
sys.stdout.flush()
os._exit(0) # as in start.py
`;

/** Each example as its README says, on two endpoints; its recorded history replays. */

const near = new Agent(`near-${process.pid}`, { FUNCX_WORKERS: '2' });
const far = new Agent(`far-${process.pid}`, { FUNCX_WORKERS: '2' });
let temporal: { client: Client; close(): Promise<void> };

/** Two compilations and the starts of agents, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  buildExamples();
  temporal = await openTemporal();
  await Promise.all([near.start(), far.start()]);
}, BUILD_MS);

afterAll(async () => {
  await Promise.all([near.stop(), far.stop()]);
  await temporal.close();
});

async function withWorker(worker: Program, run: () => Promise<void>): Promise<void> {
  worker.start();
  try {
    await run();
  } finally {
    await worker.stop();
  }
}

async function latest(type: string): Promise<string> {
  for await (const { workflowId } of temporal.client.workflow.list({ query: `WorkflowType = '${type}'` })) return workflowId;
  throw new Error(`no workflow of type ${type}`);
}

test('the training sweep picks the best rate and tolerates those that diverge', async () => {
  await withWorker(exampleWorker('training-sweep'), async () => {
    const printed = runExample('training-sweep', 'start', [near.name, '0.001', '0.01', '0.1', '0.5']);
    expect(printed).toBe('best rate 0.1, weight 3; 1 of 4 diverged\n');
    const id = await latest('sweep');
    await replay(id, 'training-sweep');
    await replay(`${id}/train-x4-1`);
  });
});

test('a person approves in the middle of a pipeline, once', async () => {
  await withWorker(exampleWorker('approval'), async () => {
    const id = runExample('approval', 'start', [near.name, far.name]).trim();
    const handle = temporal.client.workflow.getHandle(id);
    await until('there is a summary', async () => (await handle.query('summary')) ?? undefined);
    expect(runExample('approval', 'decide', [id, 'Ada', 'yes'])).toBe(
      'it will be published\nmean 3 of 3 samples, approved by Ada\n',
    );
    await replay(id, 'approval');
    await replay(`${id}/summarize-1`);
  });
});

test('a pipeline waits for an endpoint that is offline for a step, and says so', async () => {
  await far.stop();
  await far.untilOffline();
  await withWorker(exampleWorker('offline-step'), async () => {
    const handle = await temporal.client.workflow.start('acquireThenAnalyse', {
      taskQueue: 'offline-step',
      workflowId: `offline-step-${process.pid}`,
      args: [5, near.name, far.name],
    });
    await until('the details say whom it waits for', async () => {
      const details = JSON.stringify(await handle.query('__temporal_workflow_metadata'));
      return details.includes('offline since') && details.includes('): waiting');
    });
    await far.start();
    expect(await handle.result()).toBe(30);
    await replay(handle.workflowId, 'offline-step');
  });
});

test('the same in Python: calls are child workflows by name, values pass by reference', async () => {
  await withWorker(pythonWorker('python-pipeline'), async () => {
    const printed = runPython('python-pipeline', 'start.py', [near.name, far.name]);
    expect(JSON.parse(printed)).toEqual({ degree: 2, error: 0, mean: 28.5 });
    expect(runPython('python-pipeline', '-c', [REPLAY, await latest('FitCurve')])).toBe('replayed\n');
  });
});

test('a call of a workflow that nobody knows is refused with a sentence about funcx pipeline register', async () => {
  const input = { function: 'nobody-registered-this', endpoint: localEndpoint(), args: [] };
  const call = temporal.client.workflow.execute('funcxCall', {
    taskQueue: 'funcx-calls',
    workflowId: `bare-${process.pid}`,
    args: [input],
  });
  await expect(call).rejects.toMatchObject({
    cause: { type: 'FuncXRefused', message: expect.stringContaining('run "funcx pipeline register <task queue>" once') },
  });
});
