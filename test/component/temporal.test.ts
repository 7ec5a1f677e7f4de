import { randomUUID } from 'node:crypto';

import { Context } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, type Worker } from '@temporalio/worker';

import type { EndpointActivities } from '../../contracts/activities';
import { flowWorkflowId } from '../../contracts/flows';
import { endpointWorkflowId, SIGNAL, WORKFLOW } from '../../contracts/names';
import type { EndpointInput, SubmissionStart } from '../../contracts/submission';
import { createFlowStarts } from '../../platform/flow-starts';
import { createLogger } from '../../platform/log';
import { connectTemporal, identityOf, processIdOf, type Temporal } from '../../platform/temporal';
import { createWorker, stopWorker } from '../../platform/temporal-workers';
import { configFor, FakeDatabase } from '../helpers/api-harness';
import { startScratchTemporal } from '../helpers/scratch-temporal';
import { until } from '../helpers/until';

/** What only a Temporal server shows. The activities do nothing. */

const TASK_QUEUE = 'endpoints';
/** Dozens of workflow tasks, on a machine that may be busy. */
const TEST_MS = 120_000;

let temporal: Awaited<ReturnType<typeof startScratchTemporal>>;
let client: Client;
let service: Temporal;
let connection: NativeConnection;
let worker: Worker;
let running: Promise<void>;
let pump: EndpointActivities['pump'];

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  temporal = await startScratchTemporal();
  service = await connectTemporal(configFor({ TEMPORAL_ADDRESS: temporal.address }), createLogger('temporal', 'silent'), {
    eager: false,
    processId: 'test',
  });
  client = new Client({ connection: await Connection.connect({ address: temporal.address }) });
  connection = await NativeConnection.connect({ address: temporal.address });
  worker = await createWorker({
    connection,
    identity: 'test',
    namespace: 'default',
    taskQueue: TASK_QUEUE,
    payloadCodecs: [],
    activities: { pump: (input: { taskQueueId: string }) => pump(input) },
    maxCachedWorkflows: 10,
    maxConcurrentActivities: 10,
  });
  running = worker.run();
}, TEST_MS);
afterAll(async () => {
  stopWorker(worker);
  await running;
  await connection.close();
  await service.close();
  await client.connection.close();
  await temporal.stop();
}, TEST_MS);

test(
  'a signal that arrives during the last pump before continue-as-new makes the next run pump',
  async () => {
    const input: EndpointInput = { version: 1, taskQueueId: 'q', endpointId: 'e', endpointName: 'e' };
    const handle = client.workflow.getHandle(endpointWorkflowId(input.taskQueueId));
    const runs: string[] = [];
    pump = async () => {
      const runId = Context.current().info.workflowExecution?.runId ?? '';
      runs.push(runId);
      // Each pump of the first run may be its last one.
      if (runId === runs[0]) await handle.signal(SIGNAL.waiting);
      return { dispatched: 1, isGone: runId !== runs[0] };
    };
    await client.workflow.signalWithStart(WORKFLOW.endpoint, {
      workflowId: handle.workflowId,
      taskQueue: TASK_QUEUE,
      args: [input],
      signal: SIGNAL.waiting,
    });
    await until('the next run pumps', () => runs.at(-1) !== runs[0], { deadlineMs: TEST_MS });
    expect(runs.length).toBeGreaterThan(2);
    await handle.result(); // the endpoint is gone
  },
  TEST_MS,
);

test.each(['a', 'é', '漢', '😀', '"', '\\'])(
  'names of 500 times %s start workflows, whose search attributes have the first 255',
  async (char) => {
    const name = char.repeat(500);
    const id = randomUUID();
    const start: SubmissionStart = {
      id,
      workflowId: `submission/${id}`,
      ownerId: randomUUID(),
      ownerName: name,
      endpointId: randomUUID(),
      endpointName: name,
      endpointQueueId: randomUUID(),
      taskGroupId: randomUUID(),
      functionName: name,
      total: 1,
      policy: {},
      deadline: new Date(Date.now() + 60_000),
    };
    await service.startSubmission(start);
    await service.signalWaiting({ version: 1, taskQueueId: id, endpointId: id, endpointName: name });
    const { typedSearchAttributes } = await client.workflow.getHandle(start.workflowId).describe();
    const values = typedSearchAttributes.getAll().map(({ value }) => value);
    expect(values.filter((value) => value === char.repeat(255))).toHaveLength(3);
    await client.workflow.getHandle(start.workflowId).terminate();
    await client.workflow.getHandle(endpointWorkflowId(id)).terminate();
  },
  TEST_MS,
);

test(
  'a flow run is cancelled again without an error, also after its end, and one without a workflow is not cancelled',
  async () => {
    const db = new FakeDatabase().on('workflow_started_at = now()', []).asDatabase();
    const config = configFor({ TEMPORAL_ADDRESS: temporal.address });
    const starts = createFlowStarts({ db, temporal: service, config, log: createLogger('temporal', 'silent') });
    const runId = randomUUID();
    expect(await starts.start({ runId, flowId: randomUUID(), title: 't', ownerId: randomUUID(), generation: 0 })).toBe(true);
    await starts.cancel(runId);
    await starts.cancel(runId);
    await client.workflow.getHandle(flowWorkflowId(runId)).terminate();
    await starts.cancel(runId);
    expect(await starts.cancel(randomUUID())).toBe(false);
  },
  TEST_MS,
);

test(
  'the process that has the first workflow task of a submission is known until the task ends',
  async () => {
    const taskQueue = { name: 'held' };
    const workflowId = 'submission/held';
    expect(await service.firstTaskOf(workflowId)).toEqual({ isOver: false }); // it does not exist
    await client.workflow.start('anything', { workflowId, taskQueue: taskQueue.name, args: [] });
    expect(await service.firstTaskOf(workflowId)).toEqual({ isOver: false });
    const identity = identityOf('a-process');
    const { workflowService } = client.connection as Connection;
    const request = { namespace: 'default', taskQueue, identity };
    const { taskToken } = await client.withDeadline(Date.now() + TEST_MS, () => workflowService.pollWorkflowTaskQueue(request));
    const { holder } = await service.firstTaskOf(workflowId);
    expect(processIdOf(holder ?? '')).toBe('a-process');
    await workflowService.respondWorkflowTaskCompleted({ namespace: 'default', taskToken, identity, commands: [] });
    expect(await service.firstTaskOf(workflowId)).toEqual({ isOver: true });
  },
  TEST_MS,
);
