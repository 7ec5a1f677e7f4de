import { ApplicationFailure } from '@temporalio/common';

import { submissionIdOf } from '../contracts/ids';
import type { SubmissionState } from '../contracts/states';
import {
  openStateOf,
  type DispatchOutcome,
  type EndReason,
  type FailureLine,
  type SubmissionProgress,
} from '../contracts/submission';
import { askForPump, forgetPump, readWaiting, releaseDue } from '../platform/store/claims';
import { listOpenTasks, listOverdue } from '../platform/store/open-tasks';
import { readFailures, readProgress, setSubmissionState, SubmissionGoneError } from '../platform/store/submission-progress';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';
import { dispatchClaim } from './publish-tasks';

export interface SubmissionRef {
  submissionId: string;
  /** The endpoint queue; activities that are scheduled today know the field by this name. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
}

export interface SubmissionActivities {
  /** Puts tasks of the submission's queue on the broker, in the order that is fair to all who wait there. */
  dispatch(ref: SubmissionRef & { claimId: string; openBefore: number }): Promise<DispatchOutcome>;
  /** Lets delayed tasks that are due wait for dispatch. */
  releaseDueTasks(ref: SubmissionRef): Promise<number>;
  /** Reads the state from the store and writes there what follows from it. */
  observe(ref: SubmissionRef & { walltimeMs?: number }): Promise<SubmissionProgress>;
  /** Ends every open task with this reason. */
  endOpenTasks(ref: SubmissionRef & { reason: EndReason }): Promise<number>;
  /** Ends attempts that no agent stopped at their walltime. */
  endOverdueTasks(ref: SubmissionRef & { walltimeMs: number }): Promise<number>;
  finish(ref: SubmissionRef & { state: SubmissionState }): Promise<void>;
  listFailures(ref: SubmissionRef): Promise<FailureLine[]>;
}

const MAX_FAILURES = 20;

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
      const published = await dispatchClaim(deps, endpointQueueId, claimId);
      const own = published.filter((id) => submissionIdOf(id) === submissionId).length;
      const done = { published: published.length, waiting: 0, isStartedElsewhere: false };
      if (own >= openBefore) return { ...done, endpointOnline: true, endpointSinceMs: 0 };
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
        ...done,
        waiting: state.waiting,
        isStartedElsewhere: own + state.waiting < openBefore,
        endpointOnline: state.isOnline,
        endpointSinceMs: state.changedAt.getTime(),
      };
    },

    async releaseDueTasks({ submissionId }) {
      return releaseDue(deps.db, submissionId);
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

    async listFailures({ submissionId }) {
      return readFailures(deps.db, submissionId, MAX_FAILURES);
    },
  };
}
