import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import type { Broker, ReceivedMessage } from '../broker';
import { agentStateOf, decodeFrame, incarnationOf, isIdleReport, type AgentState, type StatusData } from '../contracts/frames';
import { QUEUE, endpointQueueIdOfKey, endpointWorkflowId } from '../contracts/names';
import { forgetPump } from '../platform/store/claims';
import {
  hasWaitingTasks,
  listQueuesWithoutPump,
  listUnsignalled,
  markRunning,
  markSignalled,
  sweepOffline,
  type PresenceChange,
} from '../platform/store/presence';
import { putAside } from './dead-letters';
import { createHeartbeatBatches } from './heartbeat-batches';
import { Lateness } from './lateness';
import { detectLosses } from './loss-detector';
import type { ResultsInHand } from './results-in-hand';
import { repeat } from './repeat';

/**
 * Heartbeats become presence: recorded in the store in batches, signalled to the endpoint's workflow on transitions only.
 * A queue whose heartbeats stop is marked offline by a sweep that any number of processes may run.
 */

const PREFETCH = 200;
const SWEEP_MS = 1_000;
/** Two sweeps further apart than this: the process, or its machine, stood still. */
const MAX_SWEEP_GAP_MS = 5_000;
/** A later heartbeat is good for presence, and not for finding lost attempts. */
const MAX_LATE_MS = 2_000;
/**
 * After an outage of an engine, what was claimed before it is published by repeated activities, the last of them 10 s later.
 * Until then a missing attempt is not a lost one.
 */
const STEADY_MS = 15_000;
/** A bound on the signals that a returning Temporal gets. */
const SIGNALS_PER_SWEEP = 50;
/** Signals that heartbeats send at the same time, at most. More would overload Temporal and fail; the sweep sends the others. */
const MAX_HEARTBEAT_SIGNALS = 20;
/** A younger change is most likely being signalled. */
const SIGNAL_GRACE_MS = 5_000;

export interface PresenceLoop {
  isConsuming(): boolean;
  /** Applies and acknowledges a status report that arrived on another queue. */
  receive(message: ReceivedMessage): Promise<void>;
  close(): Promise<void>;
}

export async function startPresenceLoop(
  broker: Broker,
  deps: ActivityDeps,
  userEndpoints: UserEndpoints,
  inHand: ResultsInHand,
): Promise<PresenceLoop> {
  const lateness = new Lateness();
  const recordHeartbeat = createHeartbeatBatches(deps.db);
  let heardSinceMs = Date.now();
  let sweptAtMs = Date.now();
  let steadySinceMs = Date.now() - STEADY_MS;
  let signalsOfHeartbeats = 0;
  const noteOutage = (): void => void (steadySinceMs = Date.now());
  const consumer = await broker.consume({ queue: QUEUE.status, prefetch: PREFETCH, onMessage: receive });

  async function receive(message: ReceivedMessage): Promise<void> {
    let status: StatusData;
    try {
      const frame = decodeFrame(message.body);
      if (frame.message_type !== 'ep_status_report') throw new SyntaxError(`a ${frame.message_type} message on the status queue`);
      status = frame.data;
    } catch (error) {
      await putAside(deps, QUEUE.status, message, error instanceof Error ? error.message : String(error));
      return;
    }
    try {
      await apply(endpointQueueIdOfKey(message.routingKey), status);
    } catch (error) {
      noteOutage();
      // The next heartbeat says the same: this one is not requeued.
      deps.log.warn({ err: error, routingKey: message.routingKey }, 'a heartbeat could not be applied');
    }
    message.ack();
  }

  async function apply(endpointQueueId: string, status: StatusData): Promise<void> {
    const state = agentStateOf(status);
    const periodS = state?.heartbeat_period ?? 0;
    // A user endpoint that could not start says so once; its presence is not affected.
    if (state?.error !== undefined) return userEndpoints.onStartFailure(endpointQueueId, state.error);
    const incarnation = incarnationOf(state) ?? null;
    const lateMs = lateness.measure(`${endpointQueueId}/${incarnation ?? ''}`, state?.sent_ms, Date.now());
    const beat = await recordHeartbeat({
      endpointQueueId,
      incarnation,
      periodS,
      isActive: periodS > 0 && state?.active !== false,
      workers: state?.total_workers ?? null,
      report: lastingPartOf(state) ?? status.ep_status_report ?? {},
      lateMs,
    });
    if (!beat) return;
    if (beat.isReplaced) await userEndpoints.onReplaced(endpointQueueId);
    if (beat.changed) await signalPresenceSoon(beat);
    if (beat.changed && beat.isOnline) await userEndpoints.onAlive(endpointQueueId);
    if (state?.running && state.running.length > 0) {
      await markRunning(
        deps.db,
        endpointQueueId,
        state.running.map((name) => name.slice(0, 36)),
      );
    }
    // What an agent held when it sent a late report says nothing about now, and an idle one has nothing to lose.
    if (!state || periodS <= 0 || lateMs > MAX_LATE_MS || !beat.hasAttempts) return;
    if (Date.now() - steadySinceMs < STEADY_MS) return;
    if (state.held) await detectLosses(broker, deps, inHand, { endpointQueueId, held: state.held, periodS });
    else if (isIdleReport(state)) await detectLosses(broker, deps, inHand, { endpointQueueId, held: [], periodS });
  }

  /** Without what differs in each heartbeat: a report that says nothing new is not written. */
  function lastingPartOf(state: AgentState | undefined): Omit<AgentState, 'sent_ms'> | undefined {
    if (!state) return undefined;
    const { sent_ms: _, ...lasting } = state;
    return lasting;
  }

  async function signalPresenceSoon(change: PresenceChange): Promise<void> {
    if (signalsOfHeartbeats >= MAX_HEARTBEAT_SIGNALS) return;
    signalsOfHeartbeats++;
    await signalPresence(change).finally(() => signalsOfHeartbeats--);
  }

  /** A change that Temporal does not take stays unsignalled in the store, and the sweep repeats it. */
  async function signalPresence({
    endpointQueueId,
    endpointId,
    endpointName,
    isOnline,
    changedAt,
  }: PresenceChange): Promise<void> {
    deps.log.info({ endpointQueueId, isOnline }, isOnline ? 'an endpoint came online' : 'an endpoint went offline');
    try {
      const input = { version: 1, taskQueueId: endpointQueueId, endpointId, endpointName } as const;
      const hasWaiting = isOnline && (await hasWaitingTasks(deps.db, endpointQueueId));
      await deps.temporal.signalPresence(input, { isOnline, sinceMs: changedAt.getTime(), hasWaiting });
      await markSignalled(deps.db, endpointQueueId, changedAt);
    } catch (error) {
      deps.log.warn({ err: error, endpointQueueId }, 'a presence change was not signalled; the sweep repeats it');
    }
  }

  const sweeper = repeat(SWEEP_MS, sweep, (error) => {
    noteOutage();
    deps.log.warn({ err: error }, 'the presence sweep failed; the next run tries again');
  });

  async function sweep(): Promise<void> {
    await Promise.all((await sweepOffline(deps.db, await heardForMs())).map(signalPresence));
    await Promise.all((await listUnsignalled(deps.db, SIGNAL_GRACE_MS, SIGNALS_PER_SWEEP)).map(signalPresence));
    // Requests the pump again when its signal was lost because the process died between the store and the signal.
    for (const { endpointQueueId, endpointId, endpointName, changedAt } of await listQueuesWithoutPump(deps.db)) {
      const input = { version: 1, taskQueueId: endpointQueueId, endpointId, endpointName } as const;
      try {
        const workflowTask = await deps.temporal.workflowTaskOf(endpointWorkflowId(endpointQueueId));
        // A signal would begin the repetitions anew.
        if (workflowTask === 'repeated') continue;
        if (workflowTask === 'fine') {
          await deps.temporal.signalWaiting(input);
          continue;
        }
        deps.log.warn({ endpointQueueId }, 'the workflow of an endpoint is stuck; restarting the workflow');
        const sinceMs = changedAt?.getTime() ?? Date.now();
        await deps.temporal.restartEndpoint(input, { isOnline: true, sinceMs, hasWaiting: true });
      } catch (error) {
        await forgetPump(deps.db, endpointQueueId);
        throw error;
      }
    }
  }

  /**
   * For how long heartbeats have been heard without a break. The silence of an endpoint means nothing while nobody reads the
   * status queue, while this process is stopped, or while the broker takes no messages.
   */
  async function heardForMs(): Promise<number> {
    const wasStopped = Date.now() - sweptAtMs > MAX_SWEEP_GAP_MS;
    sweptAtMs = Date.now();
    const isFlowing = await deps.publisher.requireFlowing().then(
      () => true,
      () => false,
    );
    if (wasStopped || !isFlowing || !consumer.isConsuming) {
      heardSinceMs = Date.now();
      noteOutage();
    }
    return Date.now() - heardSinceMs;
  }

  return {
    isConsuming: () => consumer.isConsuming,
    receive,
    async close() {
      await sweeper.close();
      await consumer.pause();
      await consumer.close();
    },
  };
}
