import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Client, WorkflowExecutionInfo } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';

import { WORKFLOW } from '../../contracts/names';
import type { Violation } from './check-answers';

/** Temporal itself: workflows that are open, stuck, or did not end as they should. */

/** An idle workflow has no task of its own under way for longer. */
const TASK_MS = 10_000;

export async function checkTemporal(client: Client): Promise<Violation[]> {
  const open = await listWorkflows(client, `ExecutionStatus = 'Running'`);
  const endpoints = open.filter(({ type }) => type === WORKFLOW.endpoint);
  const others = open.filter(({ type }) => type !== WORKFLOW.endpoint);
  const ended = await listWorkflows(client, `ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut', 'Canceled')`);
  return [
    ...others.map(({ workflowId, type }) => ({ rule: 'no workflow is left open', what: `${workflowId} (${type})` })),
    ...ended.map(({ workflowId, status }) => ({ rule: 'every workflow completes', what: `${workflowId} ${status.name}` })),
    ...(await Promise.all(endpoints.map(({ workflowId }) => checkIsIdle(client, workflowId)))).flat(),
  ];
}

/** The histories of workflows that are open although everything should be idle: what they wait for, and what their replay refuses. */
export async function keepHistories(client: Client, folder: string): Promise<void> {
  for (const { workflowId, runId } of await listWorkflows(client, `ExecutionStatus = 'Running'`)) {
    const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
    writeFileSync(join(folder, `history-${workflowId.replaceAll('/', '_')}.json`), historyToJSON(history));
  }
}

async function listWorkflows(client: Client, query: string): Promise<WorkflowExecutionInfo[]> {
  const found: WorkflowExecutionInfo[] = [];
  for await (const execution of client.workflow.list({ query })) found.push(execution);
  return found;
}

async function checkIsIdle(client: Client, workflowId: string): Promise<Violation[]> {
  const { raw } = await client.workflow.getHandle(workflowId).describe();
  const task = raw.pendingWorkflowTask;
  const scheduledMs = Number(task?.originalScheduledTime?.seconds ?? Date.now() / 1_000) * 1_000;
  const isStuck = task != null && ((task.attempt ?? 0) > 1 || Date.now() - scheduledMs > TASK_MS);
  return [
    ...(isStuck ? [{ rule: 'no workflow task is stuck', what: `${workflowId}, attempt ${task.attempt}` }] : []),
    ...(raw.pendingActivities ?? []).map(({ activityType, attempt }) => ({
      rule: 'no activity of an idle endpoint is pending',
      what: `${workflowId}: ${activityType?.name ?? ''}, attempt ${attempt}`,
    })),
  ];
}
