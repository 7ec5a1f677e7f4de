import { randomUUID } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client, WorkflowHandle } from '@temporalio/client';

import { buildExamples, exampleWorker, pythonWorker, temporalioPython, type Program } from '../helpers/pipelines';
import { Agent, killAndWait, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * Every example, while one of its calls runs and one waits for its endpoint: the author's worker and ours are killed with
 * SIGKILL and start again, and the pipelines end with the right values. Where the steps of an example come one after the
 * other, two of its pipelines are under way: one whose call runs, one whose call waits.
 */

let near: Agent;
let far: Agent;
let temporal: { client: Client; close(): Promise<void> };

/** Two compilations, perhaps an installation, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  buildExamples();
  temporalioPython();
  temporal = await openTemporal();
}, BUILD_MS);

beforeEach(async () => {
  [near, far] = ['near', 'far'].map((name) => new Agent(`${name}-${randomUUID()}`, { FUNCX_WORKERS: '1' })) as [Agent, Agent];
  await Promise.all([near.start(), far.start()]);
  await far.stop();
  await far.untilOffline();
});

afterEach(async () => {
  near.thaw();
  await Promise.all([near.stop(), far.stop()]);
});

afterAll(() => temporal.close());

let started = 0;
const start = (type: string, taskQueue: string, args: unknown[]): Promise<WorkflowHandle> =>
  temporal.client.workflow.start(type, { taskQueue, workflowId: `${taskQueue}-${process.pid}-${++started}`, args });

/** Until the details of a call say this; its workflow id ends like that. */
async function untilCall(pipeline: WorkflowHandle, call: string, says: RegExp): Promise<void> {
  const handle = temporal.client.workflow.getHandle(`${pipeline.workflowId}/${call}`);
  await until(`${call} of ${pipeline.workflowId} says: ${says}`, async () =>
    says.test(JSON.stringify(await handle.query('__temporal_workflow_metadata'))),
  );
}

const RUNS = /: running/;
const WAITS = /\): (\d+ )?waiting/;

interface UnderWay {
  worker: Program;
  /** Resolves when one call waits for `far`, which is offline. */
  untilOneWaits(): Promise<unknown>;
  /** Resolves when one call runs on `near`, whose worker is frozen so that it stays so. */
  untilOneRuns(): Promise<unknown>;
  /** After everything is back. */
  finish(): Promise<void>;
}

async function killInTheMiddle({ worker, untilOneWaits, untilOneRuns, finish }: UnderWay): Promise<void> {
  worker.start();
  try {
    await untilOneWaits();
    await near.freeze();
    await untilOneRuns();
    await Promise.all([worker.stop('SIGKILL'), killAndWait('workers')]);
    worker.start();
    near.thaw();
    await far.start();
    await finish();
  } finally {
    await worker.stop();
  }
}

test('map and reduce ends with the right counts when all workers are killed in the middle', async () => {
  const sites = [near, far].map(({ name }, index) => {
    const folder = mkdtempSync(join(tmpdir(), 'funcx-texts-'));
    writeFileSync(join(folder, 'text.txt'), ['the cat and the dog', 'a dog'][index]!); // one a site
    return { endpoint: name, folder };
  });
  let pipeline!: WorkflowHandle;
  await killInTheMiddle({
    worker: exampleWorker('map-reduce'),
    // Both sites are listed at once: the call to `near` must not be over before it is frozen.
    untilOneWaits: () => near.freeze(),
    untilOneRuns: async () => {
      pipeline = await start('countWordsEverywhere', 'word-count', [sites]);
      await untilCall(pipeline, 'list_files-1', RUNS);
      await untilCall(pipeline, 'list_files-2', WAITS);
    },
    finish: async () => {
      expect(await pipeline.result()).toEqual([
        ['dog', 2],
        ['the', 2],
        ['a', 1],
      ]);
    },
  });
});

test('a training sweep finds the best rate when all workers are killed in the middle', async () => {
  const sweepOn = ({ name }: Agent) => start('sweep', 'training-sweep', [name, [0.001, 0.1, 0.5]]);
  const best = { best: { rate: 0.1, weight: 3 }, tried: 3, diverged: 1 };
  const pipelines: WorkflowHandle[] = [];
  await killInTheMiddle({
    worker: exampleWorker('training-sweep'),
    untilOneWaits: async () => {
      pipelines.push(await sweepOn(far));
      await untilCall(pipelines[0]!, 'train-x3-1', WAITS); // just started
    },
    untilOneRuns: async () => {
      pipelines.push(await sweepOn(near));
      await untilCall(pipelines[1]!, 'train-x3-1', /: 2 sent to the agent, 1 running/); // just started
    },
    finish: async () => {
      for (const pipeline of pipelines) expect(await pipeline.result()).toMatchObject(best);
    },
  });
});

test('what a person approved is published when all workers are killed in the middle', async () => {
  const approval = () => start('publishAfterApproval', 'approval', [[1, 2, 6], near.name, far.name]);
  const approve = async (pipeline: WorkflowHandle, by: string): Promise<unknown> => {
    await until('there is a summary', async () => (await pipeline.query('summary')) ?? undefined);
    return pipeline.executeUpdate('decide', { args: [{ by, approved: true }] });
  };
  let [approved, undecided] = [] as unknown as [WorkflowHandle, WorkflowHandle];
  await killInTheMiddle({
    worker: exampleWorker('approval'),
    untilOneWaits: async () => {
      approved = await approval();
      await approve(approved, 'Ada');
      await untilCall(approved, 'publish-2', WAITS);
    },
    untilOneRuns: async () => {
      undecided = await approval();
      await untilCall(undecided, 'summarize-1', RUNS);
    },
    finish: async () => {
      expect(await approved.result()).toBe('mean 3 of 3 samples, approved by Ada');
      await approve(undecided, 'Grace');
      expect(await undecided.result()).toBe('mean 3 of 3 samples, approved by Grace');
    },
  });
});

test('a pipeline with an offline step ends with its value when all workers are killed in the middle', async () => {
  const acquire = () => start('acquireThenAnalyse', 'offline-step', [5, near.name, far.name]);
  const pipelines: WorkflowHandle[] = [];
  await killInTheMiddle({
    worker: exampleWorker('offline-step'),
    untilOneWaits: async () => {
      pipelines.push(await acquire());
      await untilCall(pipelines[0]!, 'analyse-2', WAITS); // just started
    },
    untilOneRuns: async () => {
      pipelines.push(await acquire());
      await untilCall(pipelines[1]!, 'acquire-1', RUNS); // just started
    },
    finish: async () => {
      for (const pipeline of pipelines) expect(await pipeline.result()).toBe(30);
    },
  });
});

test('a pipeline in Python ends with its value when all workers are killed in the middle', async () => {
  const fitCurve = () => start('FitCurve', 'fit-curve', [near.name, far.name]);
  const pipelines: WorkflowHandle[] = [];
  await killInTheMiddle({
    worker: pythonWorker('python-pipeline'),
    untilOneWaits: async () => {
      pipelines.push(await fitCurve());
      await untilCall(pipelines[0]!, 'fit', WAITS); // just started
    },
    untilOneRuns: async () => {
      pipelines.push(await fitCurve());
      await untilCall(pipelines[1]!, 'measure', RUNS); // just started
    },
    finish: async () => {
      for (const pipeline of pipelines) expect(await pipeline.result()).toEqual({ degree: 2, error: 0, mean: 28.5 });
    },
  });
});
