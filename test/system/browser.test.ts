import { join } from 'node:path';

import type { Client } from '@temporalio/client';

import { endpointWorkflowId, QUERY } from '../../contracts/names';
import { NO_CHROMIUM, testUnless } from '../helpers/conditions';
import { Http, openTemporal } from '../helpers/system';
import { TemporalUi } from '../helpers/temporal-ui';
import { playScenario, type Scenario } from '../helpers/ui-scenario';
import { until } from '../helpers/until';

/**
 * What somebody who knows only Temporal reads in its UI: what is stuck, since when, why, whose it is, and what to do. With
 * FUNCX_SCREENSHOTS=1 (`npm run screenshots`) the test writes the pictures of the README.
 */

const TIMEOUT_MS = 180_000;
const TIME = String.raw`\d+ [A-Z][a-z]{2} \d\d:\d\d(:\d\d)? UTC`;
const UUID = '[0-9a-f-]{36}';
const IMAGES = join(__dirname, '..', '..', 'docs', 'images');

let temporal: { client: Client; close(): Promise<void> };
let ui: TemporalUi;
let scenario: Scenario;
const ends: (() => Promise<unknown>)[] = [];
let beganAt: string;

beforeAll(async () => {
  if (NO_CHROMIUM !== undefined) return;
  temporal = await openTemporal();
  ends.push(() => temporal.close());
  beganAt = new Date().toISOString();
  scenario = await playScenario(temporal.client, ends);
  ui = await TemporalUi.open();
  ends.push(() => ui.close());
}, 300_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
}, 60_000);

async function openDetails(workflowId: string, tab: 'user-metadata' | 'timeline' = 'user-metadata'): Promise<void> {
  const { runId } = await temporal.client.workflow.getHandle(workflowId).describe();
  await ui.openWorkflow(workflowId, runId, tab);
}

/** The page with the summary and the details of a workflow, once it says all this. */
async function readDetails(what: string, workflowId: string, wanted: readonly RegExp[]): Promise<string> {
  await openDetails(workflowId);
  return ui.untilText(what, wanted);
}

const screenshot = async (name: string): Promise<void> => {
  if (process.env.FUNCX_SCREENSHOTS === '1') await ui.screenshot(join(IMAGES, `${name}.png`));
};

const browserTest = testUnless(NO_CHROMIUM);

browserTest(
  'the list of what waits names function, number and endpoint; failures and other ends are found there',
  async () => {
    const mine = `StartTime > "${beganAt}"`;
    await ui.openList(`FuncXState = "waiting" AND ExecutionStatus = "Running" AND ${mine}`);
    const waiting = await ui.untilText('the list of what waits', [
      new RegExp(`submission/${UUID}-calibrate-x2-on-laptop`),
      new RegExp(`submission/${UUID}-simulate-on-laptop`),
      new RegExp(`submission/${UUID}-compress-x3-on-laptop`),
      new RegExp(`submission/${UUID}-read_frame-on-beamline`),
    ]);
    expect(waiting).not.toMatch(/fit_peak|TERMINATED/);
    await screenshot('temporal-list');

    await ui.openList(`FuncXFailed > 0 AND ${mine}`);
    const failed = await ui.untilText('the list of failures', [
      new RegExp(`submission/${UUID}-average-x3-on-beamline`),
      new RegExp(`submission/${UUID}-archive-x2-on-old-laptop`),
    ]);
    expect(failed).not.toContain('calibrate');

    await ui.openList(`FuncXOwnerName = "ana" AND ${mine}`);
    const ofAna = await ui.untilText('the list of one owner', [new RegExp(`submission/${UUID}-simulate-on-laptop`)]);
    expect(ofAna).not.toContain('calibrate');

    await ui.openList(`ExecutionStatus = "Terminated" AND ${mine}`);
    await ui.untilText('the list of what was terminated', [/TERMINATED/, new RegExp(`submission/${UUID}-archive-on-laptop`)]);
  },
  TIMEOUT_MS,
);

browserTest(
  'the page of a submission that waits says why, since when, whose it is and what to do, and its timers say what they are for',
  async () => {
    const text = await readDetails('the details of what waits', scenario.waiting, [
      /calibrate x2 on laptop for admin/,
      /2 tasks: 2 waiting/,
      new RegExp(`2 tasks wait because laptop is offline since ${TIME}`),
      /start it on its machine \( ?funcx endpoint start laptop ?\)/,
      new RegExp(`The deadline is ${TIME}`),
      /To stop it: Request Cancellation on this page/,
      new RegExp(`Last updated ${TIME}`),
    ]);
    expect(text).toContain('RUNNING');
    await screenshot('temporal-details');
    await openDetails(scenario.waiting, 'timeline');
    await ui.untilText('the timers', [new RegExp(`deadline ${TIME}`), new RegExp(`next poll of the tasks, ${TIME}`)]);
    await readDetails('the details of another owner', scenario.waitingOfAna, [
      /simulate on laptop for ana/,
      /1 task waits because laptop is offline/,
    ]);
  },
  TIMEOUT_MS,
);

browserTest(
  'the pages of what runs, is retried, failed, was terminated or lost its endpoint each say so',
  async () => {
    await readDetails('the details of what runs', scenario.running, [
      /fit_peak x4 on beamline for admin/,
      /4 tasks: .*(sent to the agent|running)/,
      /at the agent of beamline, which runs them as its workers become free/,
    ]);
    await readDetails('the details of a retry', scenario.retried, [
      new RegExp(`1 task will be retried at ${TIME} \\(attempt 2\\) after OSError: the detector is busy`),
    ]);
    await openDetails(scenario.retried, 'timeline');
    await ui.untilText('the timer of the retry', [new RegExp(`attempt 2, ${TIME}, after OSError: the detector is busy`)]);
    const failed = await readDetails('the details of failures', scenario.failed, [
      /COMPLETED/,
      /3 tasks: 2 succeeded, 1 failed/,
      /ZeroDivisionError: division by zero/,
      /funcx retry/,
    ]);
    expect(failed).not.toContain('To stop it');
    await readDetails('the details of what was terminated', scenario.terminated, [
      /TERMINATED/,
      new RegExp(`Last updated ${TIME}`),
      /The state now: ?funcx submission show/,
    ]);
    await readDetails('the details of a deleted endpoint', scenario.endpointGone, [/COMPLETED/, /2 failed/, /EndpointDeleted/]);
  },
  TIMEOUT_MS,
);

browserTest(
  'the pages of endpoints say what waits there and whose it is, and the page of a pipeline says what each of its calls does',
  async () => {
    await readDetails('the details of an offline endpoint', endpointWorkflowId(scenario.laptop.id), [
      new RegExp(`laptop has been offline since ${TIME}`),
      new RegExp(`tasks wait for its agent, the oldest since ${TIME}\\. Owners: admin \\(\\d+\\), ana \\(1\\)`),
      /start its agent on its machine: ?funcx endpoint start laptop/,
    ]);
    await readDetails('the details of a deleted endpoint itself', endpointWorkflowId(scenario.oldLaptop.id), [
      /old-laptop was deleted\. Its open tasks failed with EndpointDeleted/,
    ]);
    await readDetails('the details of a pipeline', scenario.pipeline, [
      /until_file on beamline: running/,
      /square on laptop \(offline since .*\): waiting submission/,
      /square on beamline failed: .*no root of -1/,
    ]);
  },
  TIMEOUT_MS,
);

browserTest(
  'the button of the page cancels a submission',
  async () => {
    await openDetails(scenario.toCancel);
    await ui.page.getByRole('button', { name: 'Request Cancellation' }).click();
    await ui.page.getByRole('dialog').getByRole('button', { name: 'Confirm' }).click();
    const handle = temporal.client.workflow.getHandle(scenario.toCancel);
    await until('the submission is cancelled', async () => (await handle.describe()).status.name === 'CANCELLED');
    expect(await handle.query(QUERY.tasks)).toEqual({ cancelled: 3 });
    await readDetails('the details of what was cancelled', scenario.toCancel, [/CANCELED/i, /3 tasks: 3 cancelled/]);
    const [, submissionId = ''] = new RegExp(`submission/(${UUID})`).exec(scenario.toCancel) ?? [];
    expect(await new Http().ok('GET', `/v1/submissions/${submissionId}`)).toMatchObject({ state: 'cancelled' });
  },
  TIMEOUT_MS,
);
