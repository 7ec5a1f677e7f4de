import type { FlowEvent, LineRef } from '../contracts/flow-steps';
import { actionStatus, readComputeBody, type ActionStatus } from '../flows/compute';
import type { Provider } from '../flows/providers';
import type { Json } from '../flows/values';
import type { Database } from '../platform/store/database';
import { readLine } from '../platform/store/flow-lines';
import { listTaskIds } from '../platform/store/pipelines';
import { readCallResults } from './call-results';
import { groupTasks } from './flow-groups';
import type { Pending } from './flow-pending';

/** The result of a Compute action: values in the order of its tasks, small values inline, large values by reference. */

export interface ComputeOutcome {
  status(given: { stateName: string; creator: string; startedMs: number; nowMs: number; isTimedOut: boolean }): ActionStatus;
}

/** Limit for all inline values in the data of a line together. Later values are references. */
const MAX_INLINE_CHARS = 200_000;

export async function readActionResult(
  db: Database,
  { runId, line }: LineRef,
  event: FlowEvent & { kind: 'acted' },
): Promise<ComputeOutcome | undefined> {
  const row = await readLine(db, runId, line);
  const pending = row?.pending as Pending | null | undefined;
  if (!row || pending?.body === undefined) return undefined; // this step was completed, and its answer was lost
  const { tasks } = readComputeBody(pending.provider as Provider, pending.body);
  const groups = groupTasks(tasks);
  // Each value occurs twice, in `result` and in `results`.
  const inline = Math.max(0, Math.min(100_000, Math.floor((MAX_INLINE_CHARS - row.data.length) / 2)));
  const result: Json[] = tasks.map(() => null);
  const results: Json[] = tasks.map(() => null);
  let failed = 0;
  for (const [at, { places }] of groups.entries()) {
    const submissionIds = event.groups[at]?.submissionIds ?? [];
    const tasksOfGroup = await listTaskIds(db, submissionIds);
    const { taskIds, results: read } = await readCallResults(db, submissionIds, {
      maxInlineBytes: inline,
      keepsAllFailures: true,
    });
    const valueOf = new Map(taskIds.map((id, index) => [id, (read.values[index] ?? null) as Json]));
    const textOf = new Map(read.failures.map(({ taskId, traceback }) => [taskId, traceback.replaceAll('\0', '')]));
    failed += read.failed;
    places.forEach((place, index) => {
      const taskId = tasksOfGroup[index] ?? '';
      const text = textOf.get(taskId);
      const output = text ?? valueOf.get(taskId) ?? null; // null for a task that is still open
      result[place] = output;
      results[place] = text === undefined ? { task_id: taskId, output } : { task_id: taskId, output, exception: text };
    });
  }
  return {
    status: ({ stateName, creator, startedMs, nowMs, isTimedOut }) =>
      actionStatus({
        actionId: `tg_${event.taskGroupId}`,
        status: isTimedOut ? 'ACTIVE' : failed > 0 ? 'FAILED' : 'SUCCEEDED',
        stateName,
        creator,
        startTime: new Date(startedMs).toISOString(),
        completionTime: isTimedOut ? null : new Date(nowMs).toISOString(),
        details: { result, results },
      }),
  };
}
