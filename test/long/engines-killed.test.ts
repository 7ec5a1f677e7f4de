import type { Pool } from 'pg';

import { submissionIdOf } from '../../contracts/ids';
import { splitBuffer } from '../../contracts/packing';
import { Executor, python, type Client } from '../../sdk/index';
import { printFigure } from '../helpers/figures';
import { sdkClient } from '../helpers/sdk';
import { Http, killAndWait, localEndpoint, openStore, openTemporal, pidOf, state, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Any process dies in the middle of the work, or an engine stays away for long: nothing is lost, and nothing comes twice. */

const TASKS = 500;
const AWAY_MS = 65_000;
const TIMEOUT_MS = 240_000;

const http = new Http();
let client: Client;
let store: Pool;
beforeAll(() => {
  client = sdkClient();
  store = openStore();
});
afterAll(async () => {
  client.close();
  await store.end();
});

const square = python<number>('def square(n):\n    import time\n    time.sleep(0.01)\n    return n * n\n');
const numbers = (n: number): number[] => Array.from({ length: n }, (_, index) => index);

interface Work {
  executor: Executor;
  values: Promise<number[]>;
  /** How often any of its futures settled. */
  settled: () => number;
}

function start(tasks: number): Work {
  const executor = new Executor({ client, endpointId: localEndpoint(), batchSize: 50 });
  const futures = executor.map(square, numbers(tasks));
  let settled = 0;
  const count = (): void => void settled++;
  for (const future of futures) future.then(count, count);
  return { executor, values: Promise.all(futures), settled: () => settled };
}

async function expectEachOnce({ executor, values, settled }: Work, tasks: number): Promise<string[]> {
  const wanted = numbers(tasks).map((n) => n * n);
  expect(await values).toEqual(wanted);
  await executor.close();
  expect(settled()).toBe(tasks);
  // The same as anybody sees it who reads the group over HTTP.
  const { results } = await http.ok('GET', `/v1/taskgroups/${executor.taskGroupId}/results?after=0&limit=1000`);
  const rows = results as { task_id: string; result: string; seq: number }[];
  const raw = rows.map(({ result }) => JSON.parse(splitBuffer(result).body) as number).sort((a, b) => a - b);
  expect(raw).toEqual(wanted);
  expect(rows.map(({ seq }) => seq)).toEqual(numbers(tasks).map((n) => n + 1));
  const ids = rows.map(({ task_id: id }) => id);
  expect(new Set(ids).size).toBe(tasks);
  return ids;
}

async function expectWorkflowsDone(taskIds: readonly string[]): Promise<void> {
  const { client: temporal, close } = await openTemporal();
  for (const id of new Set(taskIds.map(submissionIdOf))) {
    const handle = temporal.workflow.getHandle(await workflowIdOf(id));
    await until(`the workflow of ${id} has ended`, async () => (await handle.describe()).status.name === 'COMPLETED', {
      deadlineMs: 90_000,
    });
  }
  await close();
}

test.each(['postgres', 'rabbitmq', 'temporal', 'api', 'workers', 'endpoint'] as const)(
  'kill -9 of %s amid 500 tasks: every value is right, every future settles once, every workflow ends',
  async (name) => {
    const work = start(TASKS);
    await until('a fifth of them is answered', () => work.settled() > TASKS / 5, { everyMs: 10 });
    const killedMs = Date.now();
    await killAndWait(name);
    const ids = await expectEachOnce(work, TASKS);
    printFigure(`kill -9 of ${name}: all of it answered ${((Date.now() - killedMs) / 1_000).toFixed(1)} s later`);
    await expectWorkflowsDone(ids);
  },
  TIMEOUT_MS,
);

/** Kills it again and again until the time is over; the supervisor then brings it back. */
async function keepAway(name: 'temporal', ms: number): Promise<void> {
  const untilMs = Date.now() + ms;
  await until(
    `${name} was away for long enough`,
    () => {
      const pid = state().services.find((service) => service.name === name)?.pid;
      if (pid) process.kill(pid, 'SIGKILL');
      return Date.now() > untilMs;
    },
    { deadlineMs: ms + 10_000 },
  );
  await until(`${name} runs again`, () => state().services.find((service) => service.name === name)?.state === 'ready', {
    deadlineMs: 90_000,
  });
}

/** It holds its connections and answers nobody. */
async function freeze(name: 'temporal', ms: number): Promise<void> {
  const pid = pidOf(name);
  process.kill(pid, 'SIGSTOP');
  const untilMs = Date.now() + ms;
  try {
    await until(`${name} was silent for long enough`, () => Date.now() > untilMs, { deadlineMs: ms + 10_000 });
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

async function claimedOf(taskGroupId: string): Promise<number> {
  const { rows } = await store.query<{ n: number }>(
    `select count(*)::int as n from tasks where task_group_id = $1 and state <> 'waiting'`,
    [taskGroupId],
  );
  return rows[0]!.n;
}

test.each([
  ['is gone', keepAway],
  ['is silent', freeze],
] as const)(
  'while Temporal %s for longer than a minute, results are stored and delivered; its workflows end when it is back',
  async (_how, takeAway) => {
    const work = start(TASKS);
    // What still waits when Temporal goes away waits for its return.
    await until('all of them are claimed for dispatch', async () => (await claimedOf(work.executor.taskGroupId)) === TASKS, {
      everyMs: 20,
    });
    let isBack = false;
    const away = takeAway('temporal', AWAY_MS).then(() => (isBack = true));
    const ids = await expectEachOnce(work, TASKS);
    expect(isBack).toBe(false);
    await away;
    await expectWorkflowsDone(ids);
  },
  TIMEOUT_MS,
);
