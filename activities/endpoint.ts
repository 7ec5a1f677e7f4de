import { Context } from '@temporalio/activity';

import type { EndpointActivities, PumpOutcome } from '../contracts/activities';
import type { QueueState } from '../contracts/submission';
import { findUnfinishedClaim, isQueueGone, keepPumping, parkPump } from '../platform/store/claims';
import { readQueueState } from '../platform/store/submission-progress';
import type { ActivityDeps } from './deps';
import type { FreePlaces, PlaceWait } from './free-places';
import { withHeartbeats } from './heartbeats';
import { dispatchClaim } from './publish-tasks';

const CHECK_MS = 2_000;
/** Pause after a small claim, so that the next claim finds more tasks: a claim costs as much as many messages. */
const SMALL_CLAIM_PAUSE_MS = 10;
/** Poll interval while the message broker accepts no messages. */
const BLOCKED_POLL_INTERVAL_MS = 500;
/** A claim with fewer tasks counts as small. */
const MIN_BATCH = 100;
/** After this many empty claims in a row, the pump checks before CHECK_MS whether any task still waits. */
const EMPTY_CLAIMS_BEFORE_CHECK = 4;

/** A pump whose window is full for this long ends: its heartbeats would cost more than a new pump, which the sweep requests. */
const PARK_AFTER_MS = 3_000;

const EMPTY_QUEUE: QueueState = { inHand: 0, window: 0, workers: 0, waiting: 0, owners: 0, ownerNames: [], oldestMs: null };

export function createEndpointActivities(deps: ActivityDeps, freePlaces: FreePlaces): EndpointActivities {
  return {
    async pump({ taskQueueId: endpointQueueId }) {
      const context = Context.current();
      const places = freePlaces.open(endpointQueueId);
      try {
        return await withHeartbeats(() => runPump(deps, endpointQueueId, places, context));
      } finally {
        places.close();
      }
    },

    async observeQueue({ taskQueueId: endpointQueueId }) {
      if (await isQueueGone(deps.db, endpointQueueId)) return { ...EMPTY_QUEUE, isGone: true };
      return { ...(await readQueueState(deps.db, endpointQueueId)), isGone: false };
    },
  };
}

async function runPump(
  deps: ActivityDeps,
  endpointQueueId: string,
  places: PlaceWait,
  { info, cancellationSignal }: Context,
): Promise<PumpOutcome> {
  // Each attempt of this activity uses new claim ids. The store keeps the latest claim id until the pump ends normally.
  const claimPrefix = `pump/${info.workflowExecution?.runId ?? ''}/${info.activityId}/${info.attempt}`;
  let dispatched = 0;
  let emptyClaims = 0;
  let checkedAt = 0;
  // A retry continues the earlier attempt of the activity, so the pump may park at its first empty claim.
  let parkTriedAt = info.attempt > 1 ? 0 : Date.now();
  let claim = 0;

  async function isDone(): Promise<boolean> {
    checkedAt = Date.now();
    emptyClaims = 0;
    return !(await keepPumping(deps.db, endpointQueueId));
  }

  // First publish what a dead pump claimed: its tasks count as dispatched, and nothing else would publish them.
  const unfinished = await findUnfinishedClaim(deps.db, endpointQueueId);
  if (unfinished !== undefined) {
    dispatched += (await dispatchClaim(deps, endpointQueueId, unfinished, { isRepeated: true })).length;
  }
  while (!cancellationSignal.aborted) {
    const isCheckDue = Date.now() - checkedAt >= CHECK_MS || emptyClaims >= EMPTY_CLAIMS_BEFORE_CHECK;
    if (isCheckDue && (await isDone())) return { dispatched, isGone: await isQueueGone(deps.db, endpointQueueId) };
    if (!deps.publisher.isReady) {
      await pause(BLOCKED_POLL_INTERVAL_MS, cancellationSignal);
      continue;
    }
    places.reset();
    const published = await dispatchClaim(deps, endpointQueueId, `${claimPrefix}/${claim}`, { isRepeated: false });
    if (published.length > 0) {
      dispatched += published.length;
      claim++;
      emptyClaims = 0;
      parkTriedAt = Date.now();
      if (published.length < MIN_BATCH) await pause(SMALL_CLAIM_PAUSE_MS, cancellationSignal);
    } else {
      emptyClaims++;
      if (Date.now() - parkTriedAt >= PARK_AFTER_MS) {
        parkTriedAt = Date.now();
        if (await parkPump(deps.db, endpointQueueId, PARK_AFTER_MS)) return { dispatched, isGone: false, isParked: true };
      }
      await places.next(CHECK_MS, cancellationSignal);
    }
  }
  throw cancellationSignal.reason instanceof Error ? cancellationSignal.reason : new Error('the worker is shutting down');
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
