import type { ActivityDeps } from '../activities';
import type { Completed } from '../platform/store/answers';

/**
 * The store requests a nudge at most every 5 s while a submission only makes progress. Without a late nudge, the Temporal UI
 * would show the last progress a minute later. Late nudges are in memory only: a lost one only delays what the UI shows.
 */

const QUIET_MS = 5_000;
/** Maximum number of workflows with a scheduled late nudge. */
const MAX_WAITING = 10_000;

export interface LateNudges {
  /** Call with the outcome of each stored batch. */
  note(completed: readonly Pick<Completed, 'submissionId' | 'workflowId' | 'nudge' | 'verdict'>[]): void;
  close(): void;
}

export function createLateNudges(deps: ActivityDeps): LateNudges {
  /** By workflow, because several submissions may share one. */
  const timers = new Map<string, NodeJS.Timeout>();

  function clear(workflowId: string): void {
    clearTimeout(timers.get(workflowId));
    timers.delete(workflowId);
  }

  return {
    note(completed) {
      for (const { submissionId, workflowId, nudge, verdict } of completed) {
        if (workflowId === null) continue;
        if (nudge) clear(workflowId);
        else if (verdict === 'stored' && !timers.has(workflowId) && timers.size < MAX_WAITING) {
          const timer = setTimeout(() => {
            timers.delete(workflowId);
            deps.temporal
              .nudge(workflowId)
              .catch((error: unknown) => deps.log.debug({ err: error, submissionId }, 'a late nudge was not sent'));
          }, QUIET_MS);
          timers.set(workflowId, timer);
        }
      }
    },
    close() {
      for (const workflowId of [...timers.keys()]) clear(workflowId);
    },
  };
}
