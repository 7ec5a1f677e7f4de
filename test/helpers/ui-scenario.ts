import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from '@temporalio/client';

import { buildExamples, testWorker } from './pipelines';
import { Agent, Http, type Credentials } from './system';
import { until } from './until';

/**
 * A laboratory at work, so that somebody can look at the Temporal UI and see every state: `beamline` is online and busy,
 * `laptop` is offline with waiting tasks of two owners, `old-laptop` was deleted. Functions that run are held by a file.
 */

const HELD = `
def fit_peak(go, sample):
    import os, time
    while not os.path.exists(go):
        time.sleep(0.05)
    return sample
`;
const RETRIED = `
def read_frame(run):
    raise OSError("the detector is busy")
`;
const SOMETIMES_FAILS = `
def average(values):
    return sum(values) / len(values)
`;
const NEVER_RUN = {
  calibrate: 'def calibrate(run):\n    return run\n',
  archive: 'def archive(run):\n    return run\n',
  simulate: 'def simulate(run):\n    return run\n',
  compress: 'def compress(run):\n    return run\n',
};

/** The workflow IDs of the scenario, by what became of them. */
export interface Scenario {
  running: string;
  waiting: string;
  waitingOfAna: string;
  retried: string;
  failed: string;
  toCancel: string;
  terminated: string;
  endpointGone: string;
  pipeline: string;
  beamline: Agent;
  laptop: Agent;
  oldLaptop: Agent;
}

/** The author's worker bundles its workflows first. */
const WORKER_MS = 120_000;

/** Adds to `ends` what must be ended, also after a failure. */
export async function playScenario(client: Client, ends: (() => Promise<unknown>)[]): Promise<Scenario> {
  buildExamples();
  const worker = testWorker().start();
  ends.push(() => worker.stop());
  const admin = new Http();
  const ana = new Http((await admin.ok('POST', '/v1/identities', { name: 'ana' })) as Credentials);
  const beamline = new Agent('beamline', { FUNCX_WORKERS: '2', FUNCX_ENDPOINT_PUBLIC: '1' });
  const laptop = new Agent('laptop', { FUNCX_WORKERS: '1', FUNCX_ENDPOINT_PUBLIC: '1' });
  const oldLaptop = new Agent('old-laptop', { FUNCX_WORKERS: '1' });
  const agents = [beamline, laptop, oldLaptop];
  // What waits there would stay open for the tests that follow.
  ends.push(() => Promise.all(agents.map(({ id }) => admin.request('DELETE', `/v2/endpoints/${id}`))));
  ends.push(() => Promise.all(agents.map((agent) => agent.stop())));
  await Promise.all(agents.map((agent) => agent.start()));
  await Promise.all([laptop.stop(), oldLaptop.stop()]);
  await Promise.all([laptop.untilOffline(), oldLaptop.untilOffline()]);

  const folder = mkdtempSync(join(tmpdir(), 'funcx-scenario-'));
  const [go, started] = [join(folder, 'go'), join(folder, 'started')];
  ends.push(async () => writeFileSync(go, ''));
  const submit = async (http: Http, agent: Agent, source: string, calls: unknown[][], extra: Record<string, unknown> = {}) => {
    const name = /def (\w+)/.exec(source)?.[1] ?? '';
    const { taskIds } = await http.submit(agent.id, await http.register(name, source), calls, extra);
    return taskIds;
  };
  const workflowOf = async (http: Http, taskIds: string[]): Promise<string> => {
    const { submission_id: id } = await http.task(taskIds[0]!); // a submission has tasks
    return (await http.ok('GET', `/v1/submissions/${id}`)).workflow_id as string;
  };

  const retries = { resource_specification: { funcx: { retries: { attempts: 3, backoff_s: 900 } } } };
  const retried = await submit(admin, beamline, RETRIED, [[17]], retries);
  const failed = await submit(admin, beamline, SOMETIMES_FAILS, [[[1, 2]], [[]], [[3]]]);
  for (const id of failed) await admin.answer(id);
  await until('the task that failed waits for its retry', async () => (await admin.task(retried[0]!)).state === 'delayed');
  const pipeline = 'nightly-analysis';
  await client.workflow.start('watched', {
    taskQueue: 'test-pipelines',
    workflowId: pipeline,
    args: ['beamline', 'laptop', started, go],
  });
  ends.push(() => client.workflow.getHandle(pipeline).terminate('the test is over'));
  await until('the call of the pipeline runs', () => existsSync(started), { deadlineMs: WORKER_MS });
  const running = await submit(
    admin,
    beamline,
    HELD,
    ['a', 'b', 'c', 'd'].map((sample) => [go, sample]),
  );
  await until('one of them runs', async () => (await admin.task(running[0]!)).state === 'running');
  const waiting = await submit(admin, laptop, NEVER_RUN.calibrate, [[1], [2]]);
  const waitingOfAna = await submit(ana, laptop, NEVER_RUN.simulate, [[1]]);
  const toCancel = await submit(admin, laptop, NEVER_RUN.compress, [[1], [2], [3]]);
  const terminated = await workflowOf(admin, await submit(admin, laptop, NEVER_RUN.archive, [[1]]));
  // Before its first step a workflow has no details.
  await until('the workflow to terminate has details', async () => {
    const shown = await client.workflow
      .getHandle(terminated)
      .query<{ currentDetails?: string }>('__temporal_workflow_metadata')
      .catch(() => undefined);
    return Boolean(shown?.currentDetails);
  });
  await client.workflow.getHandle(terminated).terminate('stopped by hand');
  const gone = await submit(admin, oldLaptop, NEVER_RUN.archive, [[1], [2]]);
  const endpointGone = await workflowOf(admin, gone);
  await admin.ok('DELETE', `/v2/endpoints/${oldLaptop.id}`);
  for (const id of gone) await admin.answer(id);

  return {
    running: await workflowOf(admin, running),
    waiting: await workflowOf(admin, waiting),
    waitingOfAna: await workflowOf(ana, waitingOfAna),
    retried: await workflowOf(admin, retried),
    failed: await workflowOf(admin, failed),
    toCancel: await workflowOf(admin, toCancel),
    terminated,
    endpointGone,
    pipeline,
    beamline,
    laptop,
    oldLaptop,
  };
}
