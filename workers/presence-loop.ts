import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import type { Broker, Consumer, Delivery } from '../broker';
import { agentStateOf, decodeFrame, incarnationOf, isIdleReport, type StatusData } from '../contracts/frames';
import { QUEUE, endpointQueueIdOfKey } from '../contracts/names';
import { forgetPump } from '../platform/store/claims';
import {
  listQueuesWithoutPump,
  markRunning,
  recordHeartbeat,
  sweepOffline,
  type PresenceChange,
} from '../platform/store/presence';
import { putAside } from './dead-letters';
import { detectLosses } from './loss-detector';
import { repeat } from './repeat';

/**
 * Heartbeats become presence: written to the store each time, signalled to the endpoint's workflow on transitions only.
 * A queue whose heartbeats stop is marked offline by a sweep that any number of processes may run.
 */

const PREFETCH = 200;
const SWEEP_MS = 1_000;

export interface PresenceLoop {
  isConsuming(): boolean;
  /** Takes a status report that came over another queue, and acknowledges it. */
  receive(delivery: Delivery): void;
  close(): Promise<void>;
}

export async function startPresenceLoop(broker: Broker, deps: ActivityDeps, userEndpoints: UserEndpoints): Promise<PresenceLoop> {
  const inHand = new Set<Promise<void>>();

  const consumer: Consumer = await broker.consume({
    queue: QUEUE.status,
    prefetch: PREFETCH,
    onDelivery: receive,
  });

  function receive(delivery: Delivery): void {
    const work: Promise<void> = handle(delivery).finally(() => inHand.delete(work));
    inHand.add(work);
  }

  async function handle(delivery: Delivery): Promise<void> {
    let status: StatusData;
    try {
      const frame = decodeFrame(delivery.body);
      if (frame.message_type !== 'ep_status_report') throw new SyntaxError(`a ${frame.message_type} message on the status queue`);
      status = frame.data;
    } catch (error) {
      await putAside(deps, QUEUE.status, delivery, error instanceof Error ? error.message : String(error));
      return;
    }
    try {
      await apply(endpointQueueIdOfKey(delivery.routingKey), status);
    } catch (error) {
      // The next heartbeat says the same; keeping this one would only make it old.
      deps.log.warn({ err: error, routingKey: delivery.routingKey }, 'a heartbeat could not be applied');
    }
    delivery.ack();
  }

  async function apply(endpointQueueId: string, status: StatusData): Promise<void> {
    const state = agentStateOf(status);
    const periodS = state?.heartbeat_period ?? 0;
    // Told once, by whoever could not start; says nothing about presence.
    if (state?.error !== undefined) return userEndpoints.onStartFailure(endpointQueueId, state.error);
    const beat = await recordHeartbeat(deps.db, {
      endpointQueueId,
      incarnation: incarnationOf(state) ?? null,
      periodS,
      isActive: periodS > 0 && state?.active !== false,
      workers: state?.total_workers ?? null,
      report: state ?? status.ep_status_report ?? {},
    });
    if (!beat) return;
    if (beat.isReplaced) await userEndpoints.onReplaced(endpointQueueId);
    // Told late is better than not judged: the sweep asks for the pump, and the next transition tells the rest.
    if (beat.changed) await tell(beat).catch((error: unknown) => deps.log.warn({ err: error }, 'a presence change was not told'));
    if (beat.changed && beat.isOnline) await userEndpoints.onAlive(endpointQueueId);
    if (state?.running && state.running.length > 0) {
      await markRunning(
        deps.db,
        endpointQueueId,
        state.running.map((name) => name.slice(0, 36)),
      );
    }
    if (!state || periodS <= 0) return;
    if (state.held) await detectLosses(broker, deps, { endpointQueueId, held: state.held, periodS });
    else if (isIdleReport(state)) await detectLosses(broker, deps, { endpointQueueId, held: [], periodS });
  }

  async function tell(change: PresenceChange): Promise<void> {
    const { endpointQueueId, endpointId, endpointName, isOnline, changedAt } = change;
    deps.log.info({ endpointQueueId, isOnline }, isOnline ? 'an endpoint came online' : 'an endpoint went offline');
    await deps.temporal.signalPresence(
      { version: 1, taskQueueId: endpointQueueId, endpointId, endpointName },
      { isOnline, sinceMs: changedAt.getTime() },
    );
  }

  const sweeper = repeat(SWEEP_MS, sweep, (error) =>
    deps.log.warn({ err: error }, 'the presence sweep failed; the next run tries again'),
  );

  async function sweep(): Promise<void> {
    for (const change of await sweepOffline(deps.db)) await tell(change);
    // Requests the pump again when its signal was lost because the process died between the store and the signal.
    for (const { endpointQueueId, endpointId, endpointName } of await listQueuesWithoutPump(deps.db)) {
      try {
        await deps.temporal.signalWaiting({ version: 1, taskQueueId: endpointQueueId, endpointId, endpointName });
      } catch (error) {
        await forgetPump(deps.db, endpointQueueId);
        throw error;
      }
    }
  }

  return {
    isConsuming: () => consumer.isConsuming,
    receive,
    async close() {
      await sweeper.close();
      await consumer.pause();
      await Promise.all(inHand);
      await consumer.close();
    },
  };
}
