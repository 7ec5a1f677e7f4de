import type { ActivityDeps } from '../activities';
import { endTasks } from '../activities/complete';
import { concurrently } from '../platform/concurrently';
import type { Cancel } from './deps';
import { listOpenOfTasks, listOpenSubmissions, listOpenTasks } from '../platform/store/open-tasks';

/** A task group may have thousands of open submissions. */
const MAX_CONCURRENT_CANCELS = 32;

/**
 * Cancels tasks. Single tasks end in the store, which resolves a race with a result. A whole submission is cancelled as a
 * workflow, as by the button in the Temporal UI; the workflow then ends its tasks.
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
    await concurrently(MAX_CONCURRENT_CANCELS, open, async ({ id, workflowId, endpointQueueId }) => {
      if (await deps.temporal.cancelSubmission(workflowId)) return;
      // No workflow runs: it has not started yet or was terminated. End the tasks in the store instead.
      const reason = { state: 'cancelled', code: 'Cancelled', text: 'The submission was cancelled.' } as const;
      await endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, id), reason);
    });
    return { cancelled: open.reduce((sum, submission) => sum + submission.open, 0) };
  };
}
