import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { PayloadCodec } from '@temporalio/common';
import { Worker, type NativeConnection, type WorkerOptions } from '@temporalio/worker';

/** Creates the Temporal workers of the service. The build creates the workflow bundle. */

export interface WorkerSetup {
  connection: NativeConnection;
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
 * Timeout of one activation of a workflow, in wall-clock time. A process that is stopped for longer during an activation ends.
 * The default of 5 s ended processes on busy machines. Our activations take milliseconds; expressions of flows run in activities.
 */
const STEP_TIMEOUT = '2 minutes';

/** Stops polling for tasks. The promise of `run` resolves when the worker's current tasks are done. */
export function stopWorker(worker: Worker): void {
  if (worker.getState() === 'RUNNING') worker.shutdown();
}

export async function createWorker(setup: WorkerSetup): Promise<Worker> {
  return Worker.create({
    connection: setup.connection,
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
    ...({ isolateExecutionTimeout: STEP_TIMEOUT } as object), // supported by the SDK, but missing from its types
  });
}

function workflowCode(): Pick<WorkerOptions, 'workflowBundle' | 'workflowsPath'> {
  const codePath = join(__dirname, '..', 'workflow-bundle.js');
  if (existsSync(codePath)) return { workflowBundle: { codePath } };
  return { workflowsPath: require.resolve('../workflows') };
}
