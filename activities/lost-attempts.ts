import { lostAttempts } from '../platform/metrics';
import type { OpenTask } from '../platform/store/open-tasks';
import { requeueLost } from '../platform/store/presence';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';

/** Requeues attempts that no agent holds any more. A task that was lost too often fails with the text of `describeLoss`. */
export async function requeueLostAttempts(
  deps: ActivityDeps,
  endpointQueueId: string,
  lost: readonly OpenTask[],
  reason: { log: string; describeLoss: (losses: number) => string },
): Promise<void> {
  if (lost.length === 0) return;
  const maxRetries = deps.config.FUNCX_MAX_INFRASTRUCTURE_RETRIES;
  const outcome = await requeueLost(deps.db, lost, maxRetries);
  const final = outcome.filter((attempt) => attempt.isFinal);
  const requeued = outcome.length - final.length;
  lostAttempts.inc({ outcome: 'requeued' }, requeued);
  lostAttempts.inc({ outcome: 'failed' }, final.length);
  deps.log.warn({ endpointQueueId, requeued, failed: final.length }, reason.log);
  await endTasks(deps, endpointQueueId, final, {
    state: 'failed',
    code: 'AgentLost',
    onlyThisAttempt: true,
    text: reason.describeLoss(maxRetries + 1),
  });
}
