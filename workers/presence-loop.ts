import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import type { Broker, ReceivedMessage } from '../broker';
import { agentStateOf, decodeFrame, incarnationOf, isIdleReport, type AgentState, type StatusData } from '../contracts/frames';
import { QUEUE, endpointQueueIdOfKey, endpointWorkflowId } from '../contracts/names';
import { BROKER_HEARTBEAT_S } from '../platform/broker-topology';
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
 * Turns heartbeats into presence: records them in the store in batches, and signals the endpoint's workflow on transitions only.
 * A sweep, which any number of processes may run, marks queues offline whose heartbeats stop.
 */

const PREFETCH = 200;
const SWEEP_MS = 1_000;
/** If two sweeps are further apart than this, the process or its machine was stopped. */
const MAX_SWEEP_GAP_MS = 5_000;
/** A heartbeat that is later than this counts for presence, but is not used to find lost attempts. */
const MAX_LATE_MS = 2_000;
/**
 * After an outage of an engine, retried activities publish what was claimed before the outage, the last of them 10 s later. Until
 * then, a missing attempt does not count as lost.
 */
const STEADY_MS = 15_000;
/** Maximum number of signals that one sweep sends, to limit the load on Temporal. */
const SIGNALS_PER_SWEEP = 50;
/** Until the broker hands the messages of a process that hangs to another one, nobody sees the heartbeats among them. */
const HIDDEN_MS = (3 * BROKER_HEARTBEAT_S + 5) * 1_000;
/** Maximum number of concurrent signals from heartbeats. More could overload Temporal and fail; the sweep sends the others. */
const MAX_HEARTBEAT_SIGNALS = 20;
/** The sweep skips younger changes: their signal is most likely being sent. */
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
      // Do not requeue this heartbeat: the next one contains the same information.
      deps.log.warn({ err: error, routingKey: message.routingKey }, 'a heartbeat could not be applied');
    }
    message.ack();
  }

  async function apply(endpointQueueId: string, status: StatusData): Promise<void> {
    const state = agentStateOf(status);
    const periodS = state?.heartbeat_period ?? 0;
    // A user endpoint that could not start reports the error once; its presence is not affected.
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
    // A late report does not say what the agent holds now, and a queue without attempts in flight cannot lose one.
    if (!state || periodS <= 0 || lateMs > MAX_LATE_MS || !beat.hasAttempts) return;
    if (Date.now() - steadySinceMs < STEADY_MS) return;
    if (state.held) await detectLosses(broker, deps, inHand, { endpointQueueId, held: state.held, periodS });
    else if (isIdleReport(state)) await detectLosses(broker, deps, inHand, { endpointQueueId, held: [], periodS });
  }

  /** The report without the field that differs in each heartbeat, so that an unchanged report is not written. */
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

  /** If the signal fails, the change stays unsignalled in the store, and the sweep repeats the signal. */
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
    // Many agents may be lost at the same time. What this sweep does not signal is unsignalled for the next ones.
    const silent = await sweepOffline(deps.db, { heardForMs: await heardForMs(), hiddenForMs: HIDDEN_MS });
    const gone = silent.slice(0, SIGNALS_PER_SWEEP);
    const missed = await listUnsignalled(deps.db, SIGNAL_GRACE_MS, SIGNALS_PER_SWEEP - gone.length);
    await Promise.all([...gone, ...missed].map(signalPresence));
    // Requests the pump again when its signal was lost because the process died between the store and the signal.
    const queues = await listQueuesWithoutPump(deps.db);
    for (const [at, { endpointQueueId, endpointId, endpointName, changedAt }] of queues.entries()) {
      const input = { version: 1, taskQueueId: endpointQueueId, endpointId, endpointName } as const;
      try {
        const workflowTask = await deps.temporal.workflowTaskOf(endpointWorkflowId(endpointQueueId));
        // A signal would reset the retries of the workflow task.
        if (workflowTask === 'repeated') continue;
        if (workflowTask === 'fine') {
          await deps.temporal.signalWaiting(input);
          continue;
        }
        deps.log.warn({ endpointQueueId }, 'the workflow of an endpoint is stuck; restarting the workflow');
        const sinceMs = changedAt?.getTime() ?? Date.now();
        await deps.temporal.restartEndpoint(input, { isOnline: true, sinceMs, hasWaiting: true });
      } catch (error) {
        // The list has marked the remaining queues as requested, too. They must not wait until that mark is old.
        for (const remaining of queues.slice(at)) await forgetPump(deps.db, remaining.endpointQueueId);
        throw error;
      }
    }
  }

  /**
   * How long heartbeats have been received without a break. The silence of an endpoint means nothing while nobody reads the
   * status queue, while this process is stopped, or while the broker accepts no messages.
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
