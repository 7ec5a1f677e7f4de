import type { Pool } from 'pg';

import { submissionIdOf } from '../../contracts/ids';
import { submissionWorkflowId } from '../../contracts/names';
import { BrokerTrace, StatementLog } from '../helpers/cost';
import { Http, localEndpoint, openStore, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * What calls cost, counted and not timed: messages, statements, events. A limit is what the path needs today and some
 * room for the chance of timing. Whoever makes the path cheaper lowers the limit.
 */

const TASKS = 1_000;
const SOURCE = 'def nothing():\n    return None\n';

const UNDELIVERED = 'select 1 from tasks where task_group_id = $1 and delivered_at is null limit 1';

interface Cost {
  taskMessages: number;
  resultMessages: number;
  deliveries: number;
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
  await costOf(20).catch(() => undefined); // caches and connections
  trace = await BrokerTrace.start();
  log = await StatementLog.start(store);
});

afterAll(async () => {
  await log.stop();
  await trace.stop();
  await store.end();
  await temporal.close();
});

/** The cost of one submission to the local endpoint, from the request until its workflow has ended. */
async function costOf(tasks: number): Promise<Cost> {
  await log?.counts();
  if (trace) trace.messages.length = 0;
  const calls = Array.from({ length: tasks }, () => []);
  const { taskIds, groupId } = await http.submit(localEndpoint(), functionId, calls, { create_queue: true });
  const [first = ''] = taskIds;
  const handle = temporal.client.workflow.getHandle(submissionWorkflowId(submissionIdOf(first)));
  await handle.result();
  await until('every answer is marked as delivered', async () => {
    const { rows } = await store.query({ name: 'is-delivered', text: UNDELIVERED, values: [groupId] });
    return rows.length === 0;
  });
  const statements = await log?.counts();
  const { events = [] } = await handle.fetchHistory();
  const cost = {
    taskMessages: trace?.published(new RegExp(`^ep\\.${localEndpoint()}\\.tasks$`)) ?? 0,
    resultMessages: trace?.published(/^funcx\.results$/) ?? 0,
    deliveries: trace?.published(new RegExp(`\\.${groupId}$`)) ?? 0,
    statements: [...(statements?.values() ?? [])].reduce((sum, count) => sum + count, 0),
    events: events?.length ?? 0,
    workflowTasks: (events ?? []).filter(({ workflowTaskCompletedEventAttributes }) => workflowTaskCompletedEventAttributes)
      .length,
  };
  return cost;
}

/** Fails with all costs and limits side by side. */
function expectAtMost(cost: Cost, limits: Cost): void {
  const exceeded = Object.entries(limits).filter(([name, limit]) => cost[name as keyof Cost] > limit);
  expect({ exceeded: exceeded.map(([name]) => name), cost }).toEqual({ exceeded: [], cost });
}

test('one call costs three messages, and few statements and events', async () => {
  expectAtMost(await costOf(1), {
    taskMessages: 1,
    resultMessages: 1,
    deliveries: 1,
    statements: 14,
    events: 16,
    workflowTasks: 2,
  });
});

// The slower the machine, the smaller the batches: on two quiet cores it is a third of these limits.
test('a submission of 1,000 calls costs one message a call, and few others, statements and events', async () => {
  expectAtMost(await costOf(TASKS), {
    taskMessages: 300,
    resultMessages: 500,
    deliveries: TASKS,
    statements: TASKS,
    events: 30,
    workflowTasks: 5,
  });
});
