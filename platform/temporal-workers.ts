import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { Worker, type NativeConnection, type WorkerOptions } from '@temporalio/worker';

/** Creates the Temporal workers of the service. The workflow bundle is made by the build. */

export interface WorkerSetup {
  connection: NativeConnection;
  namespace: string;
  taskQueue: string;
  activities: object;
  nexusServices?: WorkerOptions['nexusServices'];
  /** Workflows kept in memory; one that sleeps costs about 75 KB. */
  maxCachedWorkflows: number;
  maxConcurrentActivities: number;
}

/** A dead process that had a workflow cached delays its next task by this, not by the default of 10 s. */
const STICKY_TIMEOUT = '1 second';
const SHUTDOWN_GRACE = '5 seconds';

export async function createWorker(setup: WorkerSetup): Promise<Worker> {
  return Worker.create({
    connection: setup.connection,
    namespace: setup.namespace,
    taskQueue: setup.taskQueue,
    ...workflowCode(),
    activities: setup.activities,
    nexusServices: setup.nexusServices,
    maxCachedWorkflows: setup.maxCachedWorkflows,
    maxConcurrentActivityTaskExecutions: setup.maxConcurrentActivities,
    maxConcurrentLocalActivityExecutions: 100,
    stickyQueueScheduleToStartTimeout: STICKY_TIMEOUT,
    shutdownGraceTime: SHUTDOWN_GRACE,
  });
}

function workflowCode(): Pick<WorkerOptions, 'workflowBundle' | 'workflowsPath'> {
  const codePath = join(__dirname, '..', 'workflow-bundle.js');
  if (existsSync(codePath)) return { workflowBundle: { codePath } };
  return { workflowsPath: require.resolve('../workflows') };
}
