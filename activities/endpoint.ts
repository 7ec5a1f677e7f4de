import { Context } from '@temporalio/activity';

import type { EndpointActivities, PumpOutcome } from '../contracts/activities';
import type { QueueState } from '../contracts/submission';
import {
  finishClaim,
  holdClaim,
  isQueueGone,
  keepPumping,
  parkPump,
  releaseClaim,
  takeOverClaim,
} from '../platform/store/claims';
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

/** A pump renews its claim at this interval until the claim is published. */
const HOLD_INTERVAL_MS = 300;
/** A claim that was not renewed for this long belongs to a pump that died or stands still. */
const SILENT_MS = 1_000;
/** How soon the pump looks again at a claim that another pump may still be publishing. */
const PENDING_MS = 250;

/** A pump whose window is full for this long ends: its heartbeats would cost more than a new pump, which the sweep requests. */
const PARK_AFTER_MS = 3_000;

const EMPTY_QUEUE: QueueState = { inHand: 0, window: 0, workers: 0, waiting: 0, owners: 0, ownerNames: [], oldestMs: null };

export function createEndpointActivities(deps: ActivityDeps, freePlaces: FreePlaces): EndpointActivities {
  return {
    async pump({ taskQueueId: endpointQueueId }) {
      const context = Context.current();
      const places = freePlaces.open(endpointQueueId);
      try {
        const { workflowExecution, activityId, attempt } = context.info;
        // Each attempt of this activity is another pump, because an earlier attempt may still run.
        const pumpId = `pump/${workflowExecution?.runId ?? ''}/${activityId}/${attempt}`;
        const signal = context.cancellationSignal;
        return await withHeartbeats(() => runPump(deps, endpointQueueId, places, { pumpId, isRetry: attempt > 1, signal }));
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

export interface PumpRun {
  pumpId: string;
  isRetry: boolean;
  signal: AbortSignal;
}

export async function runPump(
  deps: ActivityDeps,
  endpointQueueId: string,
  places: PlaceWait,
  { pumpId, isRetry, signal }: PumpRun,
): Promise<PumpOutcome> {
  let dispatched = 0;
  let emptyClaims = 0;
  let checkedAt = 0;
  // A retry continues the earlier attempt of the activity, so the pump may park at its first empty claim.
  let parkTriedAt = isRetry ? 0 : Date.now();
  let claim = 0;
  let lookAt = 0;
  let isUnfinished = false;

  async function isDone(): Promise<boolean> {
    checkedAt = Date.now();
    emptyClaims = 0;
    return !(await keepPumping(deps.db, endpointQueueId, pumpId));
  }

  /** Takes over a claim of a pump that died: its tasks count as dispatched, and nothing else would publish them. */
  async function takeOver(claimId: string): Promise<boolean> {
    if (Date.now() < lookAt) return false;
    const found = await takeOverClaim(deps.db, endpointQueueId, claimId, SILENT_MS);
    lookAt = Date.now() + { taken: 0, pending: PENDING_MS, none: CHECK_MS }[found];
    return found === 'taken';
  }

  async function publishClaim(claimId: string, isRepeated: boolean): Promise<string[]> {
    const hold = (): Promise<boolean> => holdClaim(deps.db, endpointQueueId, claimId);
    let renewal: Promise<unknown> | undefined;
    const holding = setInterval(() => {
      renewal ??= hold()
        .catch(() => undefined) // the next one may succeed
        .finally(() => (renewal = undefined));
    }, HOLD_INTERVAL_MS);
    try {
      return await dispatchClaim(deps, endpointQueueId, claimId, { isRepeated, isStillHeld: hold });
    } catch (error) {
      clearInterval(holding);
      await renewal; // would undo the release
      await releaseClaim(deps.db, endpointQueueId, claimId).catch(() => undefined); // without it, the retry only comes later
      throw error;
    } finally {
      clearInterval(holding);
    }
  }

  /** Lets no later pump repeat what this pump has published. */
  async function finish(): Promise<void> {
    if (isUnfinished) await finishClaim(deps.db, endpointQueueId, pumpId);
    isUnfinished = false;
  }

  while (!signal.aborted) {
    const isCheckDue = Date.now() - checkedAt >= CHECK_MS || emptyClaims >= EMPTY_CLAIMS_BEFORE_CHECK;
    if (isCheckDue && (await isDone())) return { dispatched, isGone: await isQueueGone(deps.db, endpointQueueId) };
    if (!deps.publisher.isReady) {
      await pause(BLOCKED_POLL_INTERVAL_MS, signal);
      continue;
    }
    places.reset();
    const claimId = `${pumpId}/${claim}`;
    const isTaken = await takeOver(claimId);
    const published = await publishClaim(claimId, isTaken);
    isUnfinished ||= isTaken || published.length > 0;
    if (published.length > 0) {
      dispatched += published.length;
      claim++;
      emptyClaims = 0;
      parkTriedAt = Date.now();
      if (published.length < MIN_BATCH) await pause(SMALL_CLAIM_PAUSE_MS, signal);
    } else {
      emptyClaims++;
      await finish();
      if (Date.now() - parkTriedAt >= PARK_AFTER_MS) {
        parkTriedAt = Date.now();
        if (await parkPump(deps.db, endpointQueueId, pumpId, PARK_AFTER_MS)) return { dispatched, isGone: false, isParked: true };
      }
      await places.next(Math.max(1, lookAt - Date.now()), signal);
    }
  }
  await finish();
  throw signal.reason instanceof Error ? signal.reason : new Error('the worker is shutting down');
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
