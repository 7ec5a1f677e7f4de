import {
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';

import type { EndpointActivities } from '../contracts/activities';
import { QUERY, SIGNAL } from '../contracts/names';
import type { EndpointInput, PresenceSignal } from '../contracts/submission';

/**
 * The life of one endpoint queue: shows its presence, and runs at most one pump while anything waits. It is
 * signalled on transitions only; nobody who waits is woken one by one.
 */

const { pump } = proxyActivities<EndpointActivities>({
  startToCloseTimeout: '1 day',
  heartbeatTimeout: '10 seconds',
  retry: { initialInterval: '200 milliseconds', maximumInterval: '5 seconds', backoffCoefficient: 2 },
});

/** A pump that ended by a lost signal is started again after this time at the latest. */
const LOOK_INTERVAL = '1 hour';
const MAX_HISTORY_EVENTS = 2_000;

export const presenceSignal = defineSignal<[PresenceSignal]>(SIGNAL.presence);
export const waitingSignal = defineSignal(SIGNAL.waiting);
export const presenceQuery = defineQuery<PresenceSignal & { dispatched: number; isPumping: boolean }>(QUERY.presence);

export async function endpoint(input: EndpointInput & { carried?: PresenceSignal & { dispatched: number } }): Promise<void> {
  let presence: PresenceSignal = input.carried ?? { isOnline: false, sinceMs: Date.now() };
  let dispatched = input.carried?.dispatched ?? 0;
  let isPumpWanted = false;
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
    await condition(() => isPumpWanted, LOOK_INTERVAL);
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
  if (isPumpWanted) dispatched += (await pump({ taskQueueId: input.taskQueueId })).dispatched;
  await continueAsNew<typeof endpoint>({ ...input, carried: { ...presence, dispatched } });
}
