import type { Pool } from 'pg';

import { endpointWorkflowId, QUERY } from '../../contracts/names';
import { BrokerTrace, StatementLog, type TracedMessage } from '../helpers/cost';
import { Agent, Http, localEndpoint, openStore, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * What calls cost, counted and not timed: messages, statements, events. A limit is what the path needs today and some
 * room for the chance of timing. Whoever makes the path cheaper lowers the limit.
 */

const TASKS = 1_000;
const SOURCE = 'def nothing():\n    return None\n';

const STATES = 'select state, count(*)::integer as n from tasks where task_group_id = $1 group by state';
const UNDELIVERED = 'select 1 from tasks where task_group_id = $1 and delivered_at is null limit 1';

interface Cost {
  taskMessages: number;
  resultMessages: number;
  deliveries: number;
  /** Bytes of the task messages. */
  taskBytes: number;
  statements: number;
  events: number;
  workflowTasks: number;
}

let store: Pool;
let trace: BrokerTrace;
let log: StatementLog;
let temporal: Awaited<ReturnType<typeof openTemporal>>;
const http = new Http();
let functionId: string;

beforeAll(async () => {
  store = openStore();
  temporal = await openTemporal();
  functionId = await http.register('nothing', SOURCE);
  await costOf(20); // caches and connections
  trace = await BrokerTrace.start();
  log = await StatementLog.start(store);
});

afterAll(async () => {
  await log?.stop();
  await trace?.stop();
  await store.end();
  await temporal.close();
});

/** The cost of one submission to the local endpoint, from the request until its workflow has ended. */
async function costOf(tasks: number, calledId = functionId, queue: { result_batches?: boolean } = {}): Promise<Cost> {
  await log?.counts();
  if (trace) trace.messages.length = 0;
  const calls = Array.from({ length: tasks }, () => []);
  const { taskIds, groupId } = await http.submit(localEndpoint(), calledId, calls, { create_queue: true, ...queue });
  const [first = ''] = taskIds;
  const handle = temporal.client.workflow.getHandle(await workflowIdOf(first));
  await handle.result();
  await until('every answer is marked as delivered', async () => {
    const { rows } = await store.query({ name: 'is-delivered', text: UNDELIVERED, values: [groupId] });
    return rows.length === 0;
  });
  const statements = await log?.counts();
  const { rows: states } = await store.query({ name: 'states', text: STATES, values: [groupId] });
  expect(states).toEqual([{ state: 'succeeded', n: tasks }]);
  const { events = [] } = await handle.fetchHistory();
  const published = (pattern: RegExp): TracedMessage[] => trace?.published(pattern) ?? [];
  const taskMessages = published(new RegExp(`^ep\\.${localEndpoint()}\\.tasks$`));
  const cost = {
    taskMessages: taskMessages.length,
    resultMessages: published(/^funcx\.results$/).length,
    deliveries: published(new RegExp(`\\.${groupId}(\\.batches)?$`)).length,
    taskBytes: taskMessages.reduce((sum, { bytes }) => sum + bytes, 0),
    statements: [...(statements?.values() ?? [])].reduce((sum, count) => sum + count, 0),
    events: events?.length ?? 0,
    workflowTasks: (events ?? []).filter(({ workflowTaskCompletedEventAttributes }) => workflowTaskCompletedEventAttributes)
      .length,
  };
  return cost;
}

/** The least of three: chores of the service, and what other tests left behind, fall into some of them. */
async function leastCostOfOne(): Promise<Cost> {
  const costs = [await costOf(1), await costOf(1), await costOf(1)];
  const least = (name: keyof Cost): number => Math.min(...costs.map((cost) => cost[name]));
  return {
    taskMessages: least('taskMessages'),
    resultMessages: least('resultMessages'),
    deliveries: least('deliveries'),
    taskBytes: least('taskBytes'),
    statements: least('statements'),
    events: least('events'),
    workflowTasks: least('workflowTasks'),
  };
}

/** Fails with all costs and limits side by side. */
function expectAtMost(cost: Cost, limits: Cost): void {
  const exceeded = Object.entries(limits).filter(([name, limit]) => cost[name as keyof Cost] > limit);
  expect({ exceeded: exceeded.map(([name]) => name), cost }).toEqual({ exceeded: [], cost });
}

test('one call costs three messages, and few statements and events', async () => {
  expectAtMost(await leastCostOfOne(), {
    taskMessages: 1,
    resultMessages: 1,
    deliveries: 1,
    taskBytes: 300,
    // Nine of the service, five of this test, and the note of an earlier start.
    statements: 15,
    events: 15,
    workflowTasks: 2,
  });
});

// The slower the machine, the smaller the batches. Half of these limits is what a busy machine with 2 cores needs.
test('a submission of 1,000 calls costs one message a call, and few others, statements and events', async () => {
  expectAtMost(await costOf(TASKS), {
    taskMessages: 0.6 * TASKS,
    resultMessages: 0.8 * TASKS,
    deliveries: TASKS,
    taskBytes: 700 * TASKS,
    statements: TASKS,
    events: 40,
    workflowTasks: 7,
  });
});

test('with a reader of batches, a submission of 1,000 calls costs less than half a message to the submitter for each call', async () => {
  const { deliveries } = await costOf(TASKS, functionId, { result_batches: true });
  expect(deliveries).toBeLessThan(TASKS / 2);
});

test('large code reaches an agent of ours once, not with each call', async () => {
  const calls = 40;
  const large = await http.register('nothing', `${SOURCE}# ${'x'.repeat(1_000_000)}\n`);
  const { taskMessages, taskBytes } = await costOf(calls, large);
  expect(taskMessages).toBeGreaterThan(0);
  expect(taskBytes).toBeLessThan(2_000 * calls);
});

test('an agent that comes online to no tasks costs one workflow task and no activity', async () => {
  const agent = await new Agent('nothing-waits').start();
  try {
    const handle = temporal.client.workflow.getHandle(endpointWorkflowId(agent.id));
    const events = await until('the workflow of the endpoint knows', async () => {
      const { events } = await handle.fetchHistory();
      return events?.some(({ workflowTaskCompletedEventAttributes: completed }) => completed) ? events : undefined;
    });
    const query = await handle.query<{ isOnline: boolean }>(QUERY.presence);
    expect(query.isOnline).toBe(true);
    const activities = events.filter(({ activityTaskScheduledEventAttributes: scheduled }) => scheduled);
    const workflowTasks = events.filter(({ workflowTaskScheduledEventAttributes: scheduled }) => scheduled);
    // Also those that run within the workflow task.
    const markers = events.filter(({ markerRecordedEventAttributes: recorded }) => recorded);
    expect({ activities: activities.length, markers: markers.length, workflowTasks: workflowTasks.length }).toEqual({
      activities: 0,
      markers: 0,
      workflowTasks: 1,
    });
  } finally {
    await agent.stop();
    await http.ok('DELETE', `/v2/endpoints/${agent.id}`);
  }
});
