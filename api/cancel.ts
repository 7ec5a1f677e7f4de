import type { ActivityDeps } from '../activities';
import { endTasks } from '../activities/complete';
import { concurrently } from '../platform/concurrently';
import type { Cancel } from './deps';
import { listOpenOfTasks, listOpenSubmissions, listOpenTasks } from '../platform/store/open-tasks';
import { setSubmissionState } from '../platform/store/submission-progress';

/** A task group may have thousands of open submissions. */
const MAX_CONCURRENT_CANCELS = 32;

/**
 * Cancels tasks. Single tasks end in the store, which resolves a race with a result. A whole submission is cancelled as a
 * workflow, as by the button in the Temporal UI; the workflow then ends its tasks. A submission that shares its workflow ends
 * in the store, because the other submissions continue. Cancelling a task group cancels the shared workflow, because all its
 * submissions belong to the group.
 */
export function createCancel(deps: ActivityDeps): Cancel {
  return async function cancel(target) {
    if ('taskIds' in target) {
      let cancelled = 0;
      for (const [endpointQueueId, tasks] of await listOpenOfTasks(deps.db, target.taskIds)) {
        const reason = { state: 'cancelled', code: 'Cancelled', text: 'The task was cancelled.' } as const;
        cancelled += await endTasks(deps, endpointQueueId, tasks, reason);
      }
      return { cancelled };
    }
    const open = await listOpenSubmissions(deps.db, target);
    const isOne = 'submissionId' in target;
    const cancelled = new Map<string, Promise<boolean>>();
    /** False when the workflow does not run: it has not started yet or was terminated. */
    const cancelWorkflow = (workflowId: string): Promise<boolean> => {
      const started = cancelled.get(workflowId) ?? deps.temporal.cancelSubmission(workflowId);
      cancelled.set(workflowId, started);
      return started;
    };
    await concurrently(MAX_CONCURRENT_CANCELS, open, async ({ id, isShared, workflowId, endpointQueueId }) => {
      if (!(isOne && isShared) && (await cancelWorkflow(workflowId))) return;
      const reason = { state: 'cancelled', code: 'Cancelled', text: 'The submission was cancelled.' } as const;
      const ended = await endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, id), reason);
      // The shared workflow ends only with its other submissions, so set the state here.
      if (isShared && ended > 0) await setSubmissionState(deps.db, id, 'cancelled');
    });
    return { cancelled: open.reduce((sum, submission) => sum + submission.open, 0) };
  };
}
