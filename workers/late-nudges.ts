import type { ActivityDeps } from '../activities';
import type { Completed } from '../platform/store/answers';

/**
 * The store nudges a submission at most every 5 s while it only makes progress. When nothing follows within that time, the
 * last progress would show in the Temporal UI a minute later, at the workflow's own look; so it is nudged once more.
 * Kept in memory only: a lost one delays what a watcher sees, and nothing else.
 */

const QUIET_MS = 5_000;
/** Submissions in progress at once, beyond which a watcher waits for the workflow's own look. */
const MAX_WAITING = 10_000;

export interface LateNudges {
  /** To be told of everything that was stored. */
  note(completed: readonly Completed[]): void;
  close(): void;
}

export function createLateNudges(deps: ActivityDeps): LateNudges {
  const timers = new Map<string, NodeJS.Timeout>();

  function clear(submissionId: string): void {
    clearTimeout(timers.get(submissionId));
    timers.delete(submissionId);
  }

  return {
    note(completed) {
      for (const { submissionId, nudge, verdict } of completed) {
        if (nudge) clear(submissionId);
        else if (verdict === 'stored' && !timers.has(submissionId) && timers.size < MAX_WAITING) {
          const timer = setTimeout(() => {
            timers.delete(submissionId);
            deps.temporal
              .nudge(submissionId)
              .catch((error: unknown) => deps.log.debug({ err: error, submissionId }, 'a late nudge was not taken'));
          }, QUIET_MS);
          timers.set(submissionId, timer);
        }
      }
    },
    close() {
      for (const submissionId of [...timers.keys()]) clear(submissionId);
    },
  };
}
