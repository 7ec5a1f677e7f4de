import {
  condition,
  defineQuery,
  defineSignal,
  isCancellation,
  makeContinueAsNewFunc,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';

import type { EndpointActivities } from '../contracts/activities';
import { QUERY, SIGNAL } from '../contracts/names';
import type { EndpointInput, PresenceSignal, QueueState } from '../contracts/submission';
import { Alarm } from './alarm';
import { describeEndpoint } from './endpoint-details';
import { proxyQuickSteps } from './local-activities';
import { showTime } from './shown-time';

/**
 * The life of one endpoint queue. It shows the endpoint's presence and runs at most one pump while tasks wait. It is
 * signalled on transitions only, never once for each task.
 */

const { pump } = proxyActivities<EndpointActivities>({
  startToCloseTimeout: '1 day',
  summary: 'send what waits, as the agent has room for it',
  // A pump whose worker was killed goes on elsewhere after this time.
  heartbeatTimeout: '1500 milliseconds',
  retry: { initialInterval: '50 milliseconds', maximumInterval: '5 seconds', backoffCoefficient: 2 },
});
const { observeQueue } = proxyQuickSteps<EndpointActivities>();

/** A lost signal delays the pump by this at most. */
const PUMP_INTERVAL = '1 hour';
/** Another worker must replay the run within the timeout of a workflow task: an event takes 1 ms, and 10 ms on a busy machine. */
const MAX_HISTORY_EVENTS = 300;
/** Of runs that earlier releases began. */
const EARLIER_MAX_HISTORY_EVENTS = 2_000;
/** While tasks wait, the workflow counts them for the details: soon at first, then less and less often. */
const FIRST_COUNT_MS = 60_000;
const LONGEST_COUNT_MS = 3_600_000;
const CARRIES_PUMP = 'endpoint-carries-pump';
/** Earlier releases counted nothing. */
const COUNTS = 'endpoint-counts';
const SHORT_HISTORY = 'endpoint-short-history';

export const presenceSignal = defineSignal<[PresenceSignal]>(SIGNAL.presence);
export const waitingSignal = defineSignal(SIGNAL.waiting);
export const changedSignal = defineSignal(SIGNAL.changed);
export const presenceQuery = defineQuery<PresenceSignal & { dispatched: number; isPumping: boolean }>(QUERY.presence);

/** What one run hands to the next. Runs of earlier releases do not say whether a pump is wanted: they have just pumped. */
type Carried = PresenceSignal & { dispatched: number; isPumpWanted?: boolean; isParked?: boolean };

export async function endpoint(input: EndpointInput & { carried?: Carried }): Promise<void> {
  const ref = { taskQueueId: input.taskQueueId };
  let presence: PresenceSignal = input.carried ?? { isOnline: false, sinceMs: Date.now() };
  let dispatched = input.carried?.dispatched ?? 0;
  let isPumpWanted = input.carried?.isPumpWanted ?? false;
  let isPumping = false;
  /** Tasks wait, and the window stays full. */
  let isParked = input.carried?.isParked ?? false;
  let isCountWanted = false;
  let isCounting = false;
  let isGone = false;
  let countMs = FIRST_COUNT_MS;
  let queue: QueueState | undefined;
  const nextCount = new Alarm(() => (isCountWanted = true));

  const show = (): void => {
    const { endpointName } = input;
    const shown = { endpointName, ...presence, isPumping: isPumping || isParked, isGone, queue, dispatched };
    setCurrentDetails(describeEndpoint(shown, Date.now()));
  };
  const countLater = (): void => {
    const at = Date.now() + countMs;
    countMs = Math.min(countMs * 2, LONGEST_COUNT_MS);
    nextCount.set(at, `next count of what waits, ${showTime(at, Date.now())}`);
  };

  setHandler(presenceSignal, (signal) => {
    presence = { isOnline: signal.isOnline, sinceMs: signal.sinceMs };
    if (!signal.isOnline) {
      if (patched(COUNTS)) isCountWanted = true;
    } else if (signal.hasWaiting === false) {
      // Hundreds of agents that come online at once must not cost as many pumps that find nothing.
      queue = undefined;
    } else {
      isPumpWanted = true;
    }
    show();
  });
  setHandler(waitingSignal, () => {
    isPumpWanted = true;
  });
  setHandler(changedSignal, () => {
    isCountWanted = true;
  });
  setHandler(presenceQuery, () => ({ ...presence, dispatched, isPumping }));
  show();

  /** Counting is for people only: when it fails, the details keep the last numbers. */
  async function keepCounting(): Promise<void> {
    for (;;) {
      await condition(() => isCountWanted);
      isCountWanted = false;
      isCounting = true;
      try {
        const { isGone: isDeleted, ...counted } = await observeQueue(ref);
        queue = counted;
        isGone = isDeleted;
        if (counted.waiting === 0) isParked = false;
      } catch (error) {
        if (isCancellation(error)) throw error;
      }
      isCounting = false;
      if (isPumping || isParked || (!presence.isOnline && queue !== undefined && queue.waiting > 0)) countLater();
      show();
    }
  }
  keepCounting().catch((error: unknown) => {
    if (!isCancellation(error)) throw error;
  });

  while (!isHistoryFull()) {
    await condition(() => isPumpWanted || isGone, PUMP_INTERVAL);
    if (isGone) return;
    isPumpWanted = false;
    isPumping = true;
    isParked = false;
    queue = undefined;
    if (patched(COUNTS)) {
      countMs = FIRST_COUNT_MS;
      countLater();
    }
    show();
    const pumped = await pump(ref);
    dispatched += pumped.dispatched;
    isPumping = false;
    nextCount.clear();
    queue = undefined;
    isGone = pumped.isGone;
    isParked = pumped.isParked ?? false;
    show();
    if (isGone) return;
    // The pump ends when nothing waits any more, when the agent left, or when its window stays full.
    if (isParked || (!presence.isOnline && patched(COUNTS))) isCountWanted = true;
  }
  await condition(() => !isCounting);
  // Earlier releases pumped once more here, and lost a signal that arrived meanwhile.
  if (!patched(CARRIES_PUMP) && isPumpWanted) dispatched += (await pump(ref)).dispatched;
  // Earlier releases gave an endpoint workflow 2 s for a workflow task.
  const startAnew = makeContinueAsNewFunc<typeof endpoint>({ workflowTaskTimeout: '10 seconds' });
  await startAnew({ ...input, carried: { ...presence, dispatched, isPumpWanted, isParked } });
}

function isHistoryFull(): boolean {
  const { historyLength } = workflowInfo();
  if (historyLength < MAX_HISTORY_EVENTS) return false;
  return historyLength >= EARLIER_MAX_HISTORY_EVENTS || patched(SHORT_HISTORY);
}
