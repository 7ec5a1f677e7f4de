import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';

import type { SubmissionActivities } from '../contracts/activities';
import { submissionIdOf } from '../contracts/ids';
import { openStateOf } from '../contracts/submission';
import { askForPump, forgetPump, readWaiting, releaseDue } from '../platform/store/claims';
import { listOpenTasks, listOverdue } from '../platform/store/open-tasks';
import { readProgress, readQueueState, setSubmissionState, SubmissionGoneError } from '../platform/store/submission-progress';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';
import { dispatchClaim } from './publish-tasks';

/** A workflow of which nothing is left in the store must end, not try again. */
async function unlessGone<T>(read: Promise<T>): Promise<T> {
  try {
    return await read;
  } catch (error) {
    if (!(error instanceof SubmissionGoneError)) throw error;
    throw ApplicationFailure.create({ type: 'SUBMISSION_NOT_FOUND', message: error.message, nonRetryable: true });
  }
}

/** The workflow of an offline endpoint shows what waits; it counts at most so often. */
const SHOW_INTERVAL_MS = 10_000;
/** Submissions come in groups: one signal shows several. */
const SHOW_DELAY_MS = 2_000;
const MAX_REMEMBERED = 10_000;

export function createSubmissionActivities(deps: ActivityDeps): SubmissionActivities {
  const shownAt = new Map<string, number>();

  /** Has the endpoint's workflow count what waits. A signal that is lost only delays what people see. */
  function showWaiting(endpointQueueId: string): void {
    if (Date.now() - (shownAt.get(endpointQueueId) ?? 0) < SHOW_INTERVAL_MS) return;
    if (shownAt.size >= MAX_REMEMBERED) shownAt.clear();
    shownAt.set(endpointQueueId, Date.now());
    const timer = setTimeout(() => {
      deps.temporal
        .signalChanged(endpointQueueId)
        .catch((error: unknown) => deps.log.debug({ err: error, endpointQueueId }, 'an endpoint does not show what waits'));
    }, SHOW_DELAY_MS);
    timer.unref();
  }

  return {
    async dispatch({ submissionId, taskQueueId: endpointQueueId, endpointId, endpointName, claimId, openBefore }) {
      const { attempt, isLocal } = activityInfo();
      const published = await dispatchClaim(deps, endpointQueueId, claimId, { isRepeated: attempt > 1 || !isLocal });
      const own = published.filter((id) => submissionIdOf(id) === submissionId).length;
      if (own >= openBefore) return { waiting: 0, isStartedElsewhere: false, endpointOnline: true, endpointSinceMs: 0 };
      if (await askForPump(deps.db, endpointQueueId)) {
        try {
          await deps.temporal.signalWaiting({ version: 1, taskQueueId: endpointQueueId, endpointId, endpointName });
        } catch (error) {
          await forgetPump(deps.db, endpointQueueId);
          throw error;
        }
      }
      const state = await readWaiting(deps.db, submissionId, endpointQueueId);
      if (!state.isOnline && state.waiting > 0) showWaiting(endpointQueueId);
      return {
        waiting: state.waiting,
        isStartedElsewhere: own + state.waiting < openBefore,
        endpointOnline: state.isOnline,
        endpointSinceMs: state.changedAt.getTime(),
        ...(state.isOnline && state.waiting > 0 ? { queue: await readQueueState(deps.db, endpointQueueId) } : {}),
      };
    },

    async releaseDueTasks({ submissionId, nowMs }) {
      return releaseDue(deps.db, submissionId, nowMs ?? Date.now());
    },

    async observe({ submissionId, walltimeMs }) {
      const progress = await unlessGone(readProgress(deps.db, submissionId, walltimeMs));
      if (progress.open > 0) await setSubmissionState(deps.db, submissionId, openStateOf(progress));
      return progress;
    },

    async endOpenTasks({ submissionId, taskQueueId: endpointQueueId, reason }) {
      return endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, submissionId), reason);
    },

    async endOverdueTasks({ submissionId, taskQueueId: endpointQueueId, walltimeMs }) {
      const overdue = await listOverdue(deps.db, submissionId, walltimeMs);
      return endTasks(deps, endpointQueueId, overdue, {
        state: 'failed',
        code: 'WalltimeExceeded',
        onlyThisAttempt: true,
        text: `The task ran longer than its walltime of ${walltimeMs / 1000} s, and its agent did not stop it.`,
      });
    },

    async finish({ submissionId, state }) {
      await setSubmissionState(deps.db, submissionId, state);
    },
  };
}
