import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { PayloadCodec } from '@temporalio/common';
import { Worker, type NativeConnection, type WorkerOptions } from '@temporalio/worker';

/** Creates the Temporal workers of the service. The build creates the workflow bundle. */

export interface WorkerSetup {
  connection: NativeConnection;
  identity: string;
  namespace: string;
  taskQueue: string;
  payloadCodecs: PayloadCodec[];
  activities: object;
  nexusServices?: WorkerOptions['nexusServices'];
  /** A sleeping workflow takes about 75 KB. */
  maxCachedWorkflows: number;
  maxConcurrentActivities: number;
}

/**
 * The workflow task timeout (10 s) includes the wait for the workflow thread, which runs one task at a time. On a busy machine a
 * replay takes 0.2 s or more: with the default of 40, all workflow tasks timed out and were retried forever.
 */
const MAX_CONCURRENT_WORKFLOW_TASKS = 16;
/** How long a workflow task is delayed if the process that cached its workflow died. The SDK's default is 10 s. */
const STICKY_TIMEOUT = '1 second';
/** A third of the shortest heartbeat timeout. */
const HEARTBEAT_THROTTLE = '500 milliseconds';
const SHUTDOWN_GRACE = '5 seconds';

/**
 * Runs workflow code without a timeout. With one, the SDK starts an operating system thread for each step of a workflow, 24 for a
 * single call; and a process that was stopped during a step for longer than the timeout ended when it went on. The timeout guards
 * against endless loops of code that users write, but this code is ours: expressions of flows run in activities.
 */
class UntimedWorker extends Worker {
  protected static override createWorkflowCreator(
    ...[bundle, options, logger]: Parameters<typeof Worker.createWorkflowCreator>
  ): ReturnType<typeof Worker.createWorkflowCreator> {
    const isolateExecutionTimeoutMs = undefined as unknown as number; // no timeout; a worker option must be a number
    return super.createWorkflowCreator(bundle, { ...options, isolateExecutionTimeoutMs }, logger);
  }
}

/** Stops polling for tasks. The promise of `run` resolves when the worker's current tasks are done. */
export function stopWorker(worker: Worker): void {
  if (worker.getState() === 'RUNNING') worker.shutdown();
}

export async function createWorker(setup: WorkerSetup): Promise<Worker> {
  return UntimedWorker.create({
    connection: setup.connection,
    identity: setup.identity,
    namespace: setup.namespace,
    taskQueue: setup.taskQueue,
    ...workflowCode(),
    dataConverter: {
      payloadConverterPath: require.resolve('../workflows/call-payloads'),
      payloadCodecs: setup.payloadCodecs,
    },
    activities: setup.activities,
    nexusServices: setup.nexusServices,
    maxCachedWorkflows: setup.maxCachedWorkflows,
    maxConcurrentActivityTaskExecutions: setup.maxConcurrentActivities,
    maxConcurrentWorkflowTaskExecutions: MAX_CONCURRENT_WORKFLOW_TASKS,
    maxConcurrentLocalActivityExecutions: 100,
    stickyQueueScheduleToStartTimeout: STICKY_TIMEOUT,
    shutdownGraceTime: SHUTDOWN_GRACE,
    maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE,
  });
}

function workflowCode(): Pick<WorkerOptions, 'workflowBundle' | 'workflowsPath'> {
  const codePath = join(__dirname, '..', 'workflow-bundle.js');
  if (existsSync(codePath)) return { workflowBundle: { codePath } };
  return { workflowsPath: require.resolve('../workflows') };
}
