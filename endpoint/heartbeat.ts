import { hostname } from 'node:os';

import type { Publisher } from '../broker';
import { encodeFrame, type AgentState } from '../contracts/frames';
import type { AgentRegistration } from '../contracts/http/v1';

import { userOf } from './answers';
import type { Attempts } from './attempts';
import { version } from './package.json';

/** Reports which attempts the agent holds; the service relies on it. Reports changes early, at most once a second. */

export interface HeartbeatOptions {
  publisher: Publisher;
  registration: () => AgentRegistration | undefined;
  /** True if a heartbeat can be sent: the broker is connected and not blocked. */
  isConnected: () => boolean;
  attempts: Attempts;
  workers: () => { total: number; idle: number };
  /** Why the agent takes no tasks; undefined if it takes tasks. With a problem, the endpoint is reported as offline. */
  problem: () => string | undefined;
  incarnation: string;
  log: { debug(fields: object, text: string): void };
  /** Called once per period, whether connected or not. */
  onTick: () => void;
}

const TICK_MS = 1_000;
const DEFAULT_PERIOD_S = 5;
/** An attempt that has run for this long is reported before the period ends. */
const NOTABLE_RUN_MS = 1_000;
const DEADLINE_MS = 5_000;

export class Heartbeat {
  #timer: NodeJS.Timeout | undefined;
  #sentMs = 0;
  #tickedMs = 0;
  #reported = '';

  constructor(private readonly options: HeartbeatOptions) {}

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  beat(): void {
    const registration = this.options.registration();
    if (!registration || !this.options.isConnected()) return;
    this.#sentMs = Date.now();
    this.#reported = this.#notable();
    const problem = this.options.problem();
    const { total, idle } = this.options.workers();
    const state: AgentState & { problem?: string } = {
      heartbeat_period: registration.heartbeat_period_s,
      active: true,
      total_workers: total,
      idle_workers: idle,
      held: this.options.attempts.heldNames(),
      running: this.options.attempts.runningNames(),
    };
    // Reported as offline, like a last heartbeat: queued tasks stay on the queue, and held attempts do not count as lost.
    const report =
      problem === undefined ? state : { ...state, heartbeat_period: 0, active: false, problem: problem.slice(0, 2_000) };
    this.#publish(registration, report).catch((error: unknown) =>
      this.options.log.debug({ reason: String(error) }, 'a heartbeat was not sent'),
    );
  }

  /** Stops the heartbeats. With `sayGoodbye`, sends a last heartbeat that reports the agent as offline. */
  async stop(sayGoodbye: boolean): Promise<void> {
    clearInterval(this.#timer);
    const registration = this.options.registration();
    if (!sayGoodbye || !registration || !this.options.isConnected()) return;
    await this.#publish(registration, { heartbeat_period: 0, active: false, held: [], running: [] }).catch((error: unknown) =>
      this.options.log.debug({ reason: String(error) }, 'the last heartbeat was not sent'),
    );
  }

  #tick(): void {
    const periodMs = (this.options.registration()?.heartbeat_period_s ?? DEFAULT_PERIOD_S) * 1000;
    const nowMs = Date.now();
    // Rather half a tick early than half a tick late.
    if (nowMs - this.#sentMs >= periodMs - TICK_MS / 2 || this.#notable() !== this.#reported) this.beat();
    if (nowMs - this.#tickedMs >= periodMs - TICK_MS / 2) {
      this.#tickedMs = nowMs;
      this.options.onTick();
    }
  }

  #notable(): string {
    return this.options.attempts.runningNames(Date.now() - NOTABLE_RUN_MS).join();
  }

  async #publish(registration: AgentRegistration, state: AgentState): Promise<void> {
    const frame = encodeFrame({
      message_type: 'ep_status_report',
      data: {
        endpoint_id: registration.endpoint_id,
        global_state: {
          ...state,
          incarnation: this.options.incarnation,
          sent_ms: Date.now(),
          hostname: hostname(),
          pid: process.pid,
          agent_version: version,
        },
        task_statuses: {},
      },
    });
    // Not persistent: an old heartbeat is useless after a restart of the broker.
    await this.options.publisher.publish(registration.status.exchange, registration.status.routing_key, frame, {
      isPersistent: false,
      deadlineMs: DEADLINE_MS,
      userId: userOf(registration),
    });
  }
}
