import type { ActivityDeps } from '../activities';
import type { SubmissionStart } from '../contracts/submission';
import { concurrently } from '../platform/concurrently';
import { markStarted } from '../platform/store/submissions';

const MAX_CONCURRENT_STARTS = 32;

/** Starts the workflows of submissions independently of each other. Returns how many were started. */
export async function startSubmissions(deps: ActivityDeps, starts: readonly SubmissionStart[]): Promise<number> {
  const started: SubmissionStart[] = [];
  await concurrently(MAX_CONCURRENT_STARTS, starts, async (one) => {
    try {
      await deps.temporal.startSubmission(one);
      started.push(one);
    } catch (error) {
      deps.log.debug({ err: error, submissionId: one.id }, 'a submission could not be started');
    }
  });
  if (started.length > 0) await markStarted(deps.db, started);
  if (started.length < starts.length) {
    deps.log.warn(
      { submissions: starts.length - started.length },
      'submissions could not be started; the next sweep tries again',
    );
  }
  return started.length;
}
