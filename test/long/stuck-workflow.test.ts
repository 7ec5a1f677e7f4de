import type { Client } from '@temporalio/client';

import { submissionIdOf } from '../../contracts/ids';
import { endpointWorkflowId } from '../../contracts/names';
import type { SubmissionInput } from '../../contracts/submission';
import { Http, localEndpoint, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * A workflow whose workflow task fails for ever, as after a nondeterminism error. Here another workflow takes its ID, of a type that
 * no worker knows.
 */

const TIMEOUT_MS = 400_000;
/** A minute until the sweep looks again, and another one until a workflow counts as stuck. */
const RECOVERY_MS = 240_000;
/** Longer than Temporal keeps a poll open that gets no task. */
const POLL_MS = 70_000;

const http = new Http();
let temporal: { client: Client; close(): Promise<void> };
let nap: string;

beforeAll(async () => {
  temporal = await openTemporal();
  nap = await http.register('nap', '(n) => new Promise((resolve) => setTimeout(() => resolve(n), 4000))', 'javascript');
});
afterAll(() => temporal.close());

async function breakWorkflow(workflowId: string): Promise<string> {
  const { taskQueue } = await temporal.client.workflow.getHandle(workflowId).describe();
  await temporal.client.workflow.start('aTypeThatNoWorkerKnows', {
    workflowId,
    taskQueue,
    args: [],
    workflowIdConflictPolicy: 'TERMINATE_EXISTING',
  });
  return (await temporal.client.workflow.getHandle(workflowId).describe()).runId;
}

/** As on a machine so slow that no workflow task ends in time: the tasks are taken and never completed. */
async function stallWorkflow(workflowId: string): Promise<{ runId: string; stop: () => Promise<void> }> {
  const taskQueue = { name: `stalled-${workflowId}` };
  const { connection } = temporal.client;
  let isStopped = false;
  const take = async (): Promise<void> => {
    const request = { namespace: 'default', taskQueue, identity: 'stalled' };
    while (!isStopped) {
      await connection.withDeadline(Date.now() + POLL_MS, () => connection.workflowService.pollWorkflowTaskQueue(request));
    }
  };
  const taking = take();
  await temporal.client.workflow.start('aSlowWorkflow', {
    workflowId,
    taskQueue: taskQueue.name,
    args: [],
    workflowIdConflictPolicy: 'TERMINATE_EXISTING',
  });
  const { runId } = await temporal.client.workflow.getHandle(workflowId).describe();
  return {
    runId,
    stop: async () => {
      isStopped = true;
      await taking;
    },
  };
}

const isReplaced = async (workflowId: string, runId: string): Promise<boolean> =>
  (await temporal.client.workflow.getHandle(workflowId).describe()).runId !== runId;

/** What the current run of a workflow was started with. */
async function startOf(workflowId: string): Promise<SubmissionInput> {
  const { events } = await temporal.client.workflow.getHandle(workflowId).fetchHistory();
  const [input] = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  return JSON.parse(Buffer.from(input?.data ?? []).toString()) as SubmissionInput;
}

test(
  'a submission whose workflow is stuck ends as done, and keeps its answers',
  async () => {
    const { taskIds } = await http.submit(localEndpoint(), nap, [[7]]);
    const taskId = taskIds[0]!;
    const submissionId = submissionIdOf(taskId);
    await until('the task runs', async () => (await http.task(taskId)).state === 'running');
    const workflowId = await workflowIdOf(submissionId);
    const runId = await breakWorkflow(workflowId);
    expect(await http.value(taskId)).toBe(7);
    await until('another run goes on', () => isReplaced(workflowId, runId), { deadlineMs: RECOVERY_MS, everyMs: 1_000 });
    // Repeating the first dispatch would publish running tasks again.
    expect((await startOf(workflowId)).carried?.dispatches).toBeGreaterThan(1_000_000);
    const submission = async (): Promise<unknown> => (await http.ok('GET', `/v1/submissions/${submissionId}`)).state;
    await until('the submission is done', async () => (await submission()) === 'done');
    expect(await http.value(taskId)).toBe(7);
  },
  TIMEOUT_MS,
);

test(
  'an endpoint whose workflow is stuck gets its waiting tasks all the same',
  async () => {
    const workflowId = endpointWorkflowId(localEndpoint());
    const runId = await breakWorkflow(workflowId);
    const values = Array.from({ length: 60 }, (_, n) => n);
    const { taskIds } = await http.submit(
      localEndpoint(),
      nap,
      values.map((n) => [n]),
    );
    await until('another run goes on', () => isReplaced(workflowId, runId), { deadlineMs: RECOVERY_MS, everyMs: 1_000 });
    await until('every task has its answer', async () => (await http.task(taskIds.at(-1)!)).state === 'succeeded', {
      deadlineMs: RECOVERY_MS,
      everyMs: 1_000,
    });
    expect(await Promise.all(taskIds.map((id) => http.value(id)))).toEqual(values);
  },
  TIMEOUT_MS,
);

test(
  'an endpoint whose workflow tasks time out is not taken for stuck on a slow machine, and is replaced in the end',
  async () => {
    const workflowId = endpointWorkflowId(localEndpoint());
    const { runId, stop } = await stallWorkflow(workflowId);
    try {
      const beganMs = Date.now();
      const values = Array.from({ length: 60 }, (_, n) => n);
      const { taskIds } = await http.submit(
        localEndpoint(),
        nap,
        values.map((n) => [n]),
      );
      const attempts = async (): Promise<number> => {
        const { raw } = await temporal.client.workflow.getHandle(workflowId).describe();
        return raw.pendingWorkflowTask?.attempt ?? 1;
      };
      // Four attempts are enough for a workflow task that fails.
      await until('four attempts have timed out', async () => (await attempts()) > 4, {
        deadlineMs: RECOVERY_MS,
        everyMs: 1_000,
      });
      expect(await isReplaced(workflowId, runId)).toBe(false);
      await until('another run goes on', () => isReplaced(workflowId, runId), { deadlineMs: RECOVERY_MS, everyMs: 1_000 });
      expect(Date.now() - beganMs).toBeGreaterThan(150_000);
      await until('every task has its answer', async () => (await http.task(taskIds.at(-1)!)).state === 'succeeded', {
        deadlineMs: RECOVERY_MS,
        everyMs: 1_000,
      });
    } finally {
      await stop();
    }
  },
  2 * TIMEOUT_MS,
);
