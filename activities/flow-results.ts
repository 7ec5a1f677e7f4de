import type { FlowEvent, LineRef } from '../contracts/flow-steps';
import { taskIdOf } from '../contracts/ids';
import { actionStatus, readComputeBody, type ActionStatus } from '../flows/compute';
import type { Provider } from '../flows/providers';
import type { Json } from '../flows/values';
import type { Database } from '../platform/store/database';
import { readLine } from '../platform/store/flow-lines';
import { readCallResults } from './call-results';
import { groupTasks } from './flow-groups';
import type { Pending } from './flow-pending';

/** What a Compute action returns into the state: values in the order of its tasks, small ones inline, large ones by reference. */

export interface ComputeOutcome {
  status(given: { stateName: string; creator: string; startedMs: number; nowMs: number; isTimedOut: boolean }): ActionStatus;
}

/** All values of the state of a run that stand there themselves; what comes after is by reference. */
const MAX_INLINE_CHARS = 200_000;

export async function readActionResult(
  db: Database,
  { runId, line }: LineRef,
  event: FlowEvent & { kind: 'acted' },
): Promise<ComputeOutcome | undefined> {
  const row = await readLine(db, runId, line);
  const pending = row?.pending as Pending | null | undefined;
  if (!row || pending?.body === undefined) return undefined; // this step was taken, and its answer got lost
  const { tasks } = readComputeBody(pending.provider as Provider, pending.body);
  const groups = groupTasks(tasks);
  // Each value stands there twice, in `result` and in `results`.
  const inline = Math.max(0, Math.min(100_000, Math.floor((MAX_INLINE_CHARS - row.data.length) / 2)));
  const result: Json[] = tasks.map(() => null);
  const results: Json[] = tasks.map(() => null);
  let failed = 0;
  for (const [at, { places }] of groups.entries()) {
    const submissionIds = event.groups[at]?.submissionIds ?? [];
    const { values, failures } = await readCallResults(db, submissionIds, { maxInlineBytes: inline });
    const ids = taskIdsOf(submissionIds, places.length);
    const failureAt = new Map(failures.map((failure) => [failure.index, failure]));
    failed += failures.length;
    places.forEach((place, index) => {
      const failure = failureAt.get(index);
      const taskId = failure?.taskId ?? ids(index);
      const text = failure && failure.traceback.replaceAll('\0', '');
      result[place] = text ?? ((values[index] ?? null) as Json);
      results[place] =
        text === undefined
          ? { task_id: taskId, output: (values[index] ?? null) as Json }
          : { task_id: taskId, output: text, exception: text };
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

/** The id of the nth task of a group: its submissions are full but for the last. */
function taskIdsOf(submissionIds: readonly string[], total: number): (index: number) => string {
  const size = submissionIds.length <= 1 ? Math.max(total, 1) : Math.ceil(total / submissionIds.length);
  return (index) => taskIdOf(submissionIds[Math.floor(index / size)] ?? submissionIds[0] ?? '', (index % size) + 1);
}
