import { createInterface } from 'node:readline';

import { Client } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';

import { FuncXPlugin } from '../../../sdk/temporal';
import type { Call } from '../calls';
import { writeEvent } from '../submitter-log';
import * as functions from './pipeline-workflows';

/**
 * An author of pipelines, who runs a Temporal worker and starts a workflow for each list of calls. A call counts as accepted
 * once Temporal has accepted the workflow. The process may end at any time; the next one finds the workflows by their IDs.
 */

const [log = '', endpoint = ''] = process.argv.slice(2);
const TASK_QUEUE = 'chaos-pipeline';
const AGAIN_MS = 1_000;

async function main(): Promise<void> {
  const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? '' });
  const client = new Client({ connection });
  const worker = await Worker.create({
    connection,
    taskQueue: TASK_QUEUE,
    workflowsPath: require.resolve('./pipeline-workflows'),
    plugins: [new FuncXPlugin({ functions })],
    stickyQueueScheduleToStartTimeout: '1 second',
  });
  await worker.runUntil(async () => {
    const open: Promise<void>[] = [];
    for await (const line of createInterface(process.stdin)) open.push(run(client, JSON.parse(line) as Call[]));
    await Promise.all(open);
  });
  await connection.close();
}

async function run(client: Client, calls: readonly Call[]): Promise<void> {
  const keys = calls.map(({ key }) => key);
  const workflowId = `chaos-pipeline/${keys[0]}`;
  await untilDone(() =>
    client.workflow.start('chaosPipeline', {
      workflowId,
      taskQueue: TASK_QUEUE,
      args: [endpoint, keys],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  );
  for (const key of keys) writeEvent(log, { event: 'accepted', key, task: workflowId });
  const values = (await untilDone(() => client.workflow.getHandle(workflowId).result())) as string[];
  keys.forEach((key, index) => writeEvent(log, { event: 'settled', key, value: values[index] ?? '' }));
}

/** Temporal may be away. What a workflow itself failed with is final. */
async function untilDone<T>(work: () => Promise<T>): Promise<T | undefined> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError') return undefined;
      if (error instanceof Error && error.name === 'WorkflowFailedError') throw error;
      process.stderr.write(`again: ${String(error)}\n`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
