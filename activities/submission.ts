import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';

import { firstClaimOf } from '../accepting/claim-at-insert';
import type { SubmissionActivities } from '../contracts/activities';
import { idTimeMs, maxTaskIdOf } from '../contracts/ids';
import { openStateOf, type DispatchOutcome, type SubmissionProgress } from '../contracts/submission';
import { askForPump, forgetPump, readWaiting, releaseDue } from '../platform/store/claims';
import { listOpenTasks, listOverdue } from '../platform/store/open-tasks';
import {
  hasSubmission,
  readProgress,
  readQueueState,
  setSharedStates,
  setSubmissionState,
  SubmissionGoneError,
} from '../platform/store/submission-progress';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';
import { withHeartbeats } from './heartbeats';
import { dispatchClaim } from './publish-tasks';

/**
 * A workflow may start before its submission is stored. A submission younger than this may still arrive in the store. Must exceed
 * the time that the store lets an insert wait and run.
 */
const STORED_WITHIN_MS = 30_000;
/** If an older submission is missing, it was stored and its rows have been removed since. */
const REMOVED_AFTER_MS = 600_000;

/**
 * A first step that begins in time may claim tasks of other submissions too: if its process is killed, they are dispatched soon.
 * See workers/killed-processes.ts. A later step claims only its own tasks, so that nobody else waits for it.
 */
const IN_TIME_MS = 3_000;

/** The accepting process died before it stored the submission, or the store refused the submission: the workflow completes. */
const NEVER_STORED: SubmissionProgress = { open: 0, counts: {}, endpointOnline: false, endpointSinceMs: 0, failures: [] };

/** Ends the workflow, instead of retrying, when its submission is not in the store and can no longer arrive there. */
async function unlessGone(submissionId: string, read: Promise<SubmissionProgress>): Promise<SubmissionProgress> {
  try {
    return await read;
  } catch (error) {
    const ageMs = Date.now() - idTimeMs(submissionId);
    if (!(error instanceof SubmissionGoneError) || ageMs < STORED_WITHIN_MS) throw error;
    if (ageMs < REMOVED_AFTER_MS) return NEVER_STORED;
    throw ApplicationFailure.create({ type: 'SUBMISSION_NOT_FOUND', message: error.message, nonRetryable: true });
  }
}

/** The workflow of an offline endpoint shows how many tasks wait. It is signalled to count them at most this often. */
const SHOW_INTERVAL_MS = 10_000;
/** Submissions often arrive together; after this delay, one signal covers several of them. */
const SHOW_DELAY_MS = 2_000;
const MAX_REMEMBERED = 10_000;

export function createSubmissionActivities(deps: ActivityDeps): SubmissionActivities {
  const shownAt = new Map<string, number>();

  /** Signals the endpoint's workflow to count the waiting tasks. A lost signal only delays what people see. */
  function showWaiting(endpointQueueId: string): void {
    if (Date.now() - (shownAt.get(endpointQueueId) ?? 0) < SHOW_INTERVAL_MS) return;
    if (shownAt.size >= MAX_REMEMBERED) shownAt.clear();
    shownAt.set(endpointQueueId, Date.now());
    const timer = setTimeout(() => {
      deps.temporal
        .signalChanged(endpointQueueId)
        .catch((error: unknown) => deps.log.debug({ err: error, endpointQueueId }, 'could not signal an endpoint workflow'));
    }, SHOW_DELAY_MS);
    timer.unref();
  }

  function writeState(submissionId: string, lastId: string | undefined, state: string): Promise<void> {
    return lastId === undefined
      ? setSubmissionState(deps.db, submissionId, state)
      : setSharedStates(deps.db, submissionId, lastId, state);
  }

  async function dispatch(ref: Parameters<SubmissionActivities['dispatch']>[0]): Promise<DispatchOutcome> {
    const { submissionId, lastSubmissionId, taskQueueId: endpointQueueId, endpointId, endpointName, claimId, openBefore } = ref;
    const { attempt, isLocal } = activityInfo();
    const isRepeated = attempt > 1 || !isLocal;
    const fresh = isRepeated ? undefined : await deps.fresh?.take(submissionId);
    const isFirst = claimId === firstClaimOf(submissionId);
    // In another process or a later attempt, the insert may still run. A claim would find no tasks, and nothing would repeat it.
    const isStored = fresh ? fresh.kind === 'stored' : !isFirst || (await hasSubmission(deps.db, submissionId, lastSubmissionId));
    if (!isStored) {
      if (fresh?.kind !== 'refused' && Date.now() - idTimeMs(submissionId) < STORED_WITHIN_MS) {
        throw new Error(`submission ${submissionId} is not stored yet`);
      }
      return { waiting: 0, isStartedElsewhere: true, endpointOnline: false, endpointSinceMs: 0 };
    }
    const lastTask = maxTaskIdOf(lastSubmissionId ?? submissionId);
    const isInTime = isFirst && !isRepeated && Date.now() - idTimeMs(submissionId) < IN_TIME_MS;
    const published = await dispatchClaim(deps, endpointQueueId, claimId, {
      isRepeated,
      only: isInTime ? undefined : { fromId: submissionId, toId: lastTask },
      mayBeClaimed: fresh?.kind === 'stored' ? fresh.claimed.length > 0 : isFirst,
      ...(fresh?.kind === 'stored' ? { claimed: fresh.claimed } : {}),
    });
    const own = published.filter((id) => id > submissionId && id <= lastTask).length;
    if (own >= openBefore) return { waiting: 0, isStartedElsewhere: false, endpointOnline: true, endpointSinceMs: 0 };
    if (await askForPump(deps.db, endpointQueueId)) {
      try {
        await deps.temporal.signalWaiting({ version: 1, taskQueueId: endpointQueueId, endpointId, endpointName });
      } catch (error) {
        await forgetPump(deps.db, endpointQueueId);
        throw error;
      }
    }
    const state = await readWaiting(deps.db, submissionId, endpointQueueId, lastSubmissionId);
    if (!state.isOnline && state.waiting > 0) showWaiting(endpointQueueId);
    return {
      waiting: state.waiting,
      isStartedElsewhere: own + state.waiting < openBefore,
      endpointOnline: state.isOnline,
      endpointSinceMs: state.changedAt.getTime(),
      ...(state.isOnline && state.waiting > 0 ? { queue: await readQueueState(deps.db, endpointQueueId) } : {}),
    };
  }

  return {
    dispatch: (ref) => withHeartbeats(() => dispatch(ref)),

    async releaseDueTasks({ submissionId, lastSubmissionId, nowMs }) {
      return releaseDue(deps.db, submissionId, nowMs ?? Date.now(), lastSubmissionId);
    },

    async observe({ submissionId, lastSubmissionId, walltimeMs }) {
      const progress = await unlessGone(
        submissionId,
        readProgress(deps.db, submissionId, { walltimeMs, lastId: lastSubmissionId }),
      );
      if (progress.open > 0) await writeState(submissionId, lastSubmissionId, openStateOf(progress));
      return progress;
    },

    async endOpenTasks({ submissionId, lastSubmissionId, taskQueueId: endpointQueueId, reason }) {
      return endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, submissionId, lastSubmissionId), reason);
    },

    async endOverdueTasks({ submissionId, lastSubmissionId, taskQueueId: endpointQueueId, walltimeMs }) {
      const overdue = await listOverdue(deps.db, submissionId, walltimeMs, lastSubmissionId);
      return endTasks(deps, endpointQueueId, overdue, {
        state: 'failed',
        code: 'WalltimeExceeded',
        onlyThisAttempt: true,
        text: `The task ran longer than its walltime of ${walltimeMs / 1000} s, and its agent did not stop it.`,
      });
    },

    async finish({ submissionId, lastSubmissionId, state }) {
      await writeState(submissionId, lastSubmissionId, state);
    },
  };
}
