import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey } from '@temporalio/common';

import { submissionIdOf } from '../../contracts/ids';
import { SEARCH_ATTRIBUTE, SIGNAL } from '../../contracts/names';
import { splitBuffer } from '../../contracts/packing';
import { printFigure } from '../helpers/figures';
import { historiesOf, nudgeUntilNewRun, timerSummariesOf } from '../helpers/runs';
import { Agent, Http, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** However a submission is nudged, each of its runs stays short; and a new run goes on where the one before it ended. */

const TASKS = 5_000;
const MAX_EVENTS = 2_000;
const LONGEST_PAUSE_MS = 60_000;
const TIMEOUT_MS = 480_000;

const http = new Http();
const agent = new Agent('trickle', { FUNCX_WORKERS: '1' });
let temporal: { client: Client; close(): Promise<void> };
let nap: string;

beforeAll(async () => {
  temporal = await openTemporal();
  await agent.start();
  nap = await http.register('nap', 'def nap(s):\n    import time\n    time.sleep(s)\n    return s');
});
afterAll(async () => {
  await temporal.close();
  await agent.stop();
});

const policy = (funcx: object) => ({ resource_specification: { funcx } });

async function expectShortRuns(workflowId: string, leastRuns: number): Promise<void> {
  const runs = await historiesOf(temporal.client, workflowId);
  const lengths = runs.map((events) => events.length);
  printFigure(`${lengths.length} runs, of at most ${Math.max(...lengths)} events`);
  expect(lengths.length).toBeGreaterThanOrEqual(leastRuns);
  expect(Math.max(...lengths)).toBeLessThan(MAX_EVENTS);
}

test(
  '5,000 tasks that fail and succeed one by one, each with a decision of its own, make only short runs',
  async () => {
    // One worker, whose process remembers what it has seen: every task fails once.
    const source =
      'def second_time(n):\n    import sys, time\n    time.sleep(0.003)\n' +
      '    seen = sys.__dict__.setdefault("seen_numbers", set())\n' +
      '    if n not in seen:\n        seen.add(n)\n        raise TimeoutError("first time")\n    return n + 1';
    const secondTime = await http.register('second_time', source);
    const calls = Array.from({ length: TASKS }, (_, n) => [n]);
    const retries = { attempts: 2, backoff_s: 0.2 };
    const { taskIds, groupId } = await http.submit(agent.id, secondTime, calls, policy({ retries }));
    expect(new Set(taskIds.map(submissionIdOf)).size).toBe(1);
    const values = new Map<string, unknown>();
    let after = 0;
    let lastMs = Date.now();
    while (values.size < TASKS) {
      const page = await http.ok('GET', `/v1/taskgroups/${groupId}/results?after=${after}&limit=1000&wait_s=20`);
      if (page.next > after) lastMs = Date.now();
      else if (Date.now() - lastMs > LONGEST_PAUSE_MS) throw new Error(`no result came for a minute; ${values.size} are there`);
      for (const one of page.results) values.set(one.task_id as string, JSON.parse(splitBuffer(one.result as string).body));
      after = page.next as number;
    }
    expect(taskIds.map((id) => values.get(id))).toEqual(taskIds.map((_, n) => n + 1));
    expect(after).toBe(TASKS);
    const workflowId = await workflowIdOf(taskIds[0]!);
    await until('its workflow has ended', async () => {
      return (await temporal.client.workflow.getHandle(workflowId).describe()).status.name === 'COMPLETED';
    });
    await expectShortRuns(workflowId, 1);
  },
  TIMEOUT_MS,
);

test(
  '5,000 nudges without a pause make only short runs, and the last of them still ends with its task',
  async () => {
    const taskId = await http.submitOne(agent.id, nap, [600]);
    const workflowId = await workflowIdOf(taskId);
    const handle = temporal.client.workflow.getHandle(workflowId);
    for (let n = 0; n < 5_000; n++) await handle.signal(SIGNAL.nudge);
    await http.ok('POST', `/v1/tasks/${taskId}/cancel`);
    expect(await http.answer(taskId)).toMatchObject({ state: 'cancelled' });
    await until('its workflow has ended', async () => (await handle.describe()).status.name === 'COMPLETED');
    await expectShortRuns(workflowId, 3);
    const { typedSearchAttributes } = await handle.describe();
    expect(typedSearchAttributes.get(defineSearchAttributeKey(SEARCH_ATTRIBUTE.endpoint, 'KEYWORD'))).toBe(agent.id);
  },
  TIMEOUT_MS,
);

test('a deadline is a timer of the new run as well, and ends the submission', async () => {
  const taskId = await http.submitOne(agent.id, nap, [600], policy({ deadline_s: 40 }));
  const workflowId = await workflowIdOf(taskId);
  const handle = temporal.client.workflow.getHandle(workflowId);
  await nudgeUntilNewRun(handle);
  await until('the deadline is a timer', async () => {
    const [latest = []] = await historiesOf(temporal.client, workflowId);
    return timerSummariesOf(latest).some((summary) => summary.startsWith('deadline '));
  });
  expect((await http.task(taskId)).status).not.toBe('failed');
  expect(await http.answer(taskId)).toMatchObject({ state: 'expired', error_code: 'Expired' });
});

test('the pause before the next attempt goes on in the new run, and is not prolonged by it', async () => {
  const flaky = await http.register(
    'flaky',
    'def flaky():\n    import sys\n    n = sys.__dict__["flaky"] = sys.__dict__.get("flaky", 0) + 1\n' +
      '    if n == 1:\n        raise TimeoutError("first time")\n    return n',
  );
  const backoffS = 20;
  const taskId = await http.submitOne(agent.id, flaky, [], policy({ retries: { attempts: 2, backoff_s: backoffS } }));
  const workflowId = await workflowIdOf(taskId);
  await until('it waits for its retry', async () => (await http.task(taskId)).state === 'delayed');
  const delayedMs = Date.now();
  await nudgeUntilNewRun(temporal.client.workflow.getHandle(workflowId));
  expect(await http.value(taskId)).toBe(2);
  expect(Date.now() - delayedMs).toBeLessThan((backoffS + 10) * 1_000);
  const timers = (await historiesOf(temporal.client, workflowId)).map(timerSummariesOf);
  const pause = expect.stringMatching(/^attempt 2, .+ UTC, after TimeoutError: first time$/);
  for (const ofRun of timers) expect(ofRun).toContainEqual(pause);
});

test('a walltime is a timer of the new run as well', async () => {
  const taskId = await http.submitOne(agent.id, nap, [600], policy({ walltime_s: 20 }));
  const workflowId = await workflowIdOf(taskId);
  await until('it runs', async () => (await http.task(taskId)).state === 'running');
  await nudgeUntilNewRun(temporal.client.workflow.getHandle(workflowId));
  expect(await http.answer(taskId)).toMatchObject({ state: 'failed', error_code: 'WalltimeExceeded' });
  const [latest = []] = await historiesOf(temporal.client, workflowId);
  expect(timerSummariesOf(latest)).toContainEqual(expect.stringMatching(/^end of the walltime of 20 s, .+ UTC$/));
});

test("a cancel in Temporal's own way reaches the new run, and its tasks are cancelled", async () => {
  const taskId = await http.submitOne(agent.id, nap, [600]);
  const handle = temporal.client.workflow.getHandle(await workflowIdOf(taskId));
  await nudgeUntilNewRun(handle);
  await handle.cancel();
  expect(await http.answer(taskId)).toMatchObject({ state: 'cancelled', error_code: 'Cancelled' });
  await until('the run shows as cancelled', async () => (await handle.describe()).status.name === 'CANCELLED');
});
