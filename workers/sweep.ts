import type { ActivityDeps } from '../activities';
import { deliver } from '../activities/complete';
import { submissionInputOf } from '../contracts/submission';
import { listUndelivered } from '../platform/store/answers';
import { listUnstarted, markStarted } from '../platform/store/submissions';
import { repeat, type Repeating } from './repeat';

/**
 * Finishes what a dead process left half done: submissions whose bodies are stored but whose workflow was never seen to
 * start, and stored answers that were not delivered. Each step is idempotent, so several processes may sweep.
 */

const SWEEP_MS = 3_000;
/** Younger ones are most likely in the hands of the process that accepted them. */
const MIN_AGE_MS = 6_000;
const AT_ONCE = 200;

export function startSweep(deps: ActivityDeps): Repeating {
  return repeat(SWEEP_MS, sweep, (error) => deps.log.warn({ err: error }, 'the sweep failed; the next run tries again'));

  async function sweep(): Promise<void> {
    try {
      await deliver(deps, await listUndelivered(deps.db, MIN_AGE_MS, AT_ONCE));
    } catch (error) {
      deps.log.warn({ err: error }, 'answers could not be delivered by the sweep; it runs again');
    }
    try {
      await startMissing();
    } catch (error) {
      deps.log.warn({ err: error }, 'submissions could not be started by the sweep; it runs again');
    }
  }

  async function startMissing(): Promise<void> {
    // Each by itself: one that can not be started must not keep the others waiting.
    const unstarted = await listUnstarted(deps.db, new Date(Date.now() - MIN_AGE_MS), AT_ONCE);
    for (const start of unstarted) {
      try {
        await deps.temporal.startSubmission(submissionInputOf(start), start.ownerName);
        await markStarted(deps.db, [start.id]);
      } catch (error) {
        deps.log.warn(
          { err: error, submissionId: start.id },
          'a submission could not be started by the sweep; it is tried again',
        );
      }
    }
  }
}
