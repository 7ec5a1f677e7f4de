import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { PayloadCodec } from '@temporalio/common';
import { Worker, type NativeConnection, type WorkerOptions } from '@temporalio/worker';

/** Creates the Temporal workers of the service. The build makes the workflow bundle. */

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
 * The timeout of a workflow task, 10 s, runs while the task waits for the thread of the workflows, which does one after another. On
 * a busy machine a replay takes 0.2 s and more: with the default of 40, all of them came too late, and were repeated for ever.
 */
const MAX_CONCURRENT_WORKFLOW_TASKS = 16;
/** The delay of a workflow task when the process that cached its workflow died. The default is 10 s. */
const STICKY_TIMEOUT = '1 second';
/** A third of the shortest heartbeat timeout. */
const HEARTBEAT_THROTTLE = '500 milliseconds';
const SHUTDOWN_GRACE = '5 seconds';
/**
 * Of one step of a workflow, by the clock: a process that stood still for longer in the middle of one ends with it. The default of
 * 5 s ended processes that a busy machine had stopped. Ours are steps of milliseconds; a flow's expressions run in activities.
 */
const STEP_TIMEOUT = '2 minutes';

/** Polls for no more tasks; the promise of `run` resolves when those in hand are done. */
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
    ...({ isolateExecutionTimeout: STEP_TIMEOUT } as object), // taken, and not declared
  });
}

function workflowCode(): Pick<WorkerOptions, 'workflowBundle' | 'workflowsPath'> {
  const codePath = join(__dirname, '..', 'workflow-bundle.js');
  if (existsSync(codePath)) return { workflowBundle: { codePath } };
  return { workflowsPath: require.resolve('../workflows') };
}
