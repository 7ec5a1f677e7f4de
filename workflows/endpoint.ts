import {
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';

import type { EndpointActivities } from '../contracts/activities';
import { QUERY, SIGNAL } from '../contracts/names';
import type { EndpointInput, PresenceSignal } from '../contracts/submission';

/**
 * The life of one endpoint queue. It shows the endpoint's presence and runs at most one pump while tasks wait. It is
 * signalled on transitions only, never once for each task.
 */

const { pump } = proxyActivities<EndpointActivities>({
  startToCloseTimeout: '1 day',
  // A pump whose worker was killed goes on elsewhere after this time.
  heartbeatTimeout: '3 seconds',
  retry: { initialInterval: '200 milliseconds', maximumInterval: '5 seconds', backoffCoefficient: 2 },
});

/** A lost signal delays the pump by this at most. */
const PUMP_INTERVAL = '1 hour';
const MAX_HISTORY_EVENTS = 2_000;
const CARRIES_PUMP = 'endpoint-carries-pump';

export const presenceSignal = defineSignal<[PresenceSignal]>(SIGNAL.presence);
export const waitingSignal = defineSignal(SIGNAL.waiting);
export const presenceQuery = defineQuery<PresenceSignal & { dispatched: number; isPumping: boolean }>(QUERY.presence);

/** What one run hands to the next. Runs of earlier releases do not say whether a pump is wanted: they have just pumped. */
type Carried = PresenceSignal & { dispatched: number; isPumpWanted?: boolean };

export async function endpoint(input: EndpointInput & { carried?: Carried }): Promise<void> {
  let presence: PresenceSignal = input.carried ?? { isOnline: false, sinceMs: Date.now() };
  let dispatched = input.carried?.dispatched ?? 0;
  let isPumpWanted = input.carried?.isPumpWanted ?? false;
  let isPumping = false;

  const show = (): void => {
    const since = new Date(presence.sinceMs).toISOString();
    setCurrentDetails(
      [
        `**${input.endpointName}** is ${presence.isOnline ? 'online' : 'offline'} since ${since}`,
        '',
        isPumping ? 'Tasks wait; they are dispatched as places become free.' : 'Nothing waits here that could run.',
        '',
        `Dispatched after waiting: ${dispatched}`,
      ].join('\n'),
    );
  };

  setHandler(presenceSignal, (signal) => {
    presence = signal;
    if (signal.isOnline) isPumpWanted = true;
    show();
  });
  setHandler(waitingSignal, () => {
    isPumpWanted = true;
  });
  setHandler(presenceQuery, () => ({ ...presence, dispatched, isPumping }));
  show();

  while (workflowInfo().historyLength < MAX_HISTORY_EVENTS) {
    await condition(() => isPumpWanted, PUMP_INTERVAL);
    isPumpWanted = false;
    isPumping = true;
    show();
    const pumped = await pump({ taskQueueId: input.taskQueueId });
    dispatched += pumped.dispatched;
    isPumping = false;
    if (pumped.isGone) {
      setCurrentDetails(`**${input.endpointName}** was deleted.`);
      return;
    }
    show();
  }
  // Earlier releases pumped once more here, and lost a signal that arrived meanwhile.
  if (!patched(CARRIES_PUMP) && isPumpWanted) dispatched += (await pump({ taskQueueId: input.taskQueueId })).dispatched;
  await continueAsNew<typeof endpoint>({ ...input, carried: { ...presence, dispatched, isPumpWanted } });
}
