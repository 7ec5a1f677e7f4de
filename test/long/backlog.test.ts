import { connect } from 'amqplib';

import { submissionIdOf } from '../../contracts/ids';
import { tasksQueueName } from '../../contracts/names';
import { splitBuffer } from '../../contracts/packing';
import { printFigure } from '../helpers/figures';
import { killEverything, readResidentMb, restartEverything, type ResidentMb } from '../helpers/restarts';
import { Agent, Http, openStore, openTemporal, serviceEnv, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Many tasks for an offline endpoint: they rest in the store over restarts of everything, and every value is right once it is back. */

const TASKS = 20_000;
const A_REQUEST = 2_500;
const WARM_UP = 5_000;
const MAX_GROWTH_MB = 50;
const REST_MS = 120_000;
const TIMEOUT_MS = 900_000;

const http = new Http();
const agent = new Agent('backlog', { FUNCX_WORKERS: '2' });
let next: string;

beforeAll(async () => {
  await agent.start();
  next = await http.register('next', 'function next(x) { return x + 1; }', 'javascript');
});
afterAll(() => agent.stop());

async function submitAll(tasks: number): Promise<{ taskIds: string[]; groupId: string }> {
  const taskIds: string[] = [];
  let group: { task_group_id?: string } = {};
  for (let from = 0; from < tasks; from += A_REQUEST) {
    const calls = Array.from({ length: A_REQUEST }, (_, n) => [from + n]);
    const submitted = await http.submit(agent.id, next, calls, group);
    group = { task_group_id: submitted.groupId };
    taskIds.push(...submitted.taskIds);
  }
  return { taskIds, groupId: group.task_group_id ?? '' };
}

/** The results of a group in the order of their sequence, until there are as many. */
async function collect(groupId: string, tasks: number): Promise<{ task_id: string; result: string; seq: number }[]> {
  const results: { task_id: string; result: string; seq: number }[] = [];
  while (results.length < tasks) {
    const after = results.at(-1)?.seq ?? 0;
    const page = await http.ok('GET', `/v1/taskgroups/${groupId}/results?after=${after}&limit=1000&wait_s=20`);
    if (page.results.length === 0) throw new Error(`no result came for 20 s; ${results.length} are there`);
    results.push(...(page.results as typeof results));
  }
  return results;
}

function compare(what: string, before: ResidentMb, after: ResidentMb): void {
  const names = Object.keys(before) as (keyof ResidentMb)[];
  const growth = names.map((name) => after[name] - before[name]);
  printFigure(`${what}: ${names.map((name) => `${name} ${before[name]} -> ${after[name]} MB`).join(', ')}`);
  expect(Math.max(...growth)).toBeLessThan(MAX_GROWTH_MB);
}

/** By the broker itself: the management interface counts only every few seconds. */
async function expectNothingOnTheBroker(): Promise<void> {
  const model = await connect(serviceEnv('api').AMQP_URL ?? '');
  const channel = await model.createChannel();
  const { messageCount, consumerCount } = await channel.checkQueue(tasksQueueName(agent.id));
  await model.close();
  expect({ messageCount, consumerCount }).toEqual({ messageCount: 0, consumerCount: 0 });
}

test(
  '20,000 tasks for an offline endpoint rest in the store over two restarts of everything, and then every value comes, once',
  async () => {
    // What a system weighs that has nothing waiting, after each kind of restart.
    await collect((await submitAll(A_REQUEST)).groupId, A_REQUEST);
    await agent.stop();
    await killEverything();
    const idleAfterKill = await readResidentMb();
    await restartEverything();
    const idleAfterRestart = await readResidentMb();

    await agent.start();
    await collect((await submitAll(WARM_UP)).groupId, WARM_UP);
    await agent.stop();
    await agent.untilOffline();
    const warm = await readResidentMb();

    const acceptingMs = Date.now();
    const { taskIds, groupId } = await submitAll(TASKS);
    printFigure(`${TASKS} tasks accepted in ${((Date.now() - acceptingMs) / 1_000).toFixed(1)} s`);
    compare('accepted', warm, await readResidentMb());
    await expectNothingOnTheBroker();

    await killEverything();
    compare('kill -9 of every process, idle -> with the backlog', idleAfterKill, await readResidentMb());
    await expectNothingOnTheBroker();
    await restartEverything();
    compare('down and up, idle -> with the backlog', idleAfterRestart, await readResidentMb());
    await expectNothingOnTheBroker();

    const { client, close } = await openTemporal();
    const submissions = [...new Set(taskIds.map(submissionIdOf))];
    const lengths = (): Promise<number[]> =>
      Promise.all(
        submissions.map(async (id) => (await client.workflow.getHandle(await workflowIdOf(id)).describe()).historyLength),
      );
    const before = await lengths();
    const restsUntilMs = Date.now() + REST_MS;
    await until(
      'two minutes are over',
      async () => {
        expect(await lengths()).toEqual(before);
        return Date.now() > restsUntilMs;
      },
      { deadlineMs: REST_MS + 30_000, everyMs: 5_000 },
    );
    printFigure(`${submissions.length} waiting histories of at most ${Math.max(...before)} events did not grow in two minutes`);
    await close();
    compare('two minutes later', idleAfterRestart, await readResidentMb());

    const drainingMs = Date.now();
    await agent.start();
    const results = await collect(groupId, TASKS);
    printFigure(`${TASKS} values in ${((Date.now() - drainingMs) / 1_000).toFixed(1)} s, the start of the agent included`);
    const values = new Map(results.map((one) => [one.task_id, JSON.parse(splitBuffer(one.result).body) as unknown]));
    expect(taskIds.map((id) => values.get(id))).toEqual(taskIds.map((_, n) => n + 1));
    expect(results.map((one) => one.seq)).toEqual(taskIds.map((_, n) => n + 1));
    const store = openStore();
    const { rows } = await store.query('select in_flight from endpoint_queues where id = $1', [agent.id]);
    expect(rows).toEqual([{ in_flight: 0 }]);
    await store.end();
  },
  TIMEOUT_MS,
);
