import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';

import type { SubmissionActivities } from '../contracts/activities';
import { submissionIdOf } from '../contracts/ids';
import { openStateOf } from '../contracts/submission';
import { askForPump, forgetPump, readWaiting, releaseDue } from '../platform/store/claims';
import { listOpenTasks, listOverdue } from '../platform/store/open-tasks';
import { readProgress, setSubmissionState, SubmissionGoneError } from '../platform/store/submission-progress';
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

export function createSubmissionActivities(deps: ActivityDeps): SubmissionActivities {
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
      return {
        waiting: state.waiting,
        isStartedElsewhere: own + state.waiting < openBefore,
        endpointOnline: state.isOnline,
        endpointSinceMs: state.changedAt.getTime(),
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
