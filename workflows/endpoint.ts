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
 * The workflow of one endpoint queue. It shows the endpoint's presence and runs at most one pump while tasks wait. It is
 * signalled on transitions only, never for each task.
 */

const { pump } = proxyActivities<EndpointActivities>({
  startToCloseTimeout: '1 day',
  summary: 'send what waits, as the agent has room for it',
  // If the worker of a pump is killed, another worker retries the pump after this time.
  heartbeatTimeout: '1500 milliseconds',
  retry: { initialInterval: '50 milliseconds', maximumInterval: '5 seconds', backoffCoefficient: 2 },
});
const { observeQueue } = proxyQuickSteps<EndpointActivities>();

/** A lost signal delays the pump by at most this time. */
const PUMP_INTERVAL = '1 hour';
/** Another worker must replay a run within the workflow task timeout. An event takes 1 ms, or 10 ms on a busy machine. */
const MAX_HISTORY_EVENTS = 300;
/** The limit for runs that earlier releases started. */
const EARLIER_MAX_HISTORY_EVENTS = 2_000;
/** While tasks wait, the workflow counts them for the details, first after this time, then at growing intervals. */
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

/** What continue-as-new carries over. Runs of earlier releases omit `isPumpWanted`: their pump has just ended. */
type Carried = PresenceSignal & { dispatched: number; isPumpWanted?: boolean; isParked?: boolean };

export async function endpoint(input: EndpointInput & { carried?: Carried }): Promise<void> {
  const ref = { taskQueueId: input.taskQueueId };
  let presence: PresenceSignal = input.carried ?? { isOnline: false, sinceMs: Date.now() };
  let dispatched = input.carried?.dispatched ?? 0;
  let isPumpWanted = input.carried?.isPumpWanted ?? false;
  let isPumping = false;
  /** Tasks wait, and the pump ended because the window stayed full. */
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
      // When hundreds of agents come online at the same time, do not start a pump for each one that has nothing to do.
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

  /** Counting is only for what people see: if it fails, the details keep the last numbers. */
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
    // The pump ended because no tasks wait, the endpoint went offline, or the window stayed full.
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
