import type { ReceivedBatch } from '../broker';
import type { TaskHeaders } from '../contracts/frames';
import { attemptName } from '../contracts/frames';

import type { Outcome } from './runners/runner';

/**
 * The attempts that the agent holds. The states of an attempt:
 *
 * | state | meaning | next |
 * |---|---|---|
 * | `queued` | delivered; its body is being fetched, or it waits for a slot | running, answering (cancelled), gone (given back) |
 * | `running` | a slot runs it | answering, gone (the agent ends) |
 * | `answering` | its outcome is known; not yet confirmed by the broker | answered |
 * | answered | confirmed and acknowledged; only its number is remembered | |
 *
 * Independently of its state, an attempt may have a delivery to acknowledge. After an early acknowledgement, it has none.
 * Acknowledging a delivery whose channel is lost has no effect; a redelivery replaces that delivery.
 */

export interface AttemptDelivery {
  ack(): void;
  nack(requeue: boolean): void;
  readonly batch?: ReceivedBatch;
}

export interface Attempt {
  readonly taskId: string;
  /** The highest number that was delivered. One run answers all delivered numbers. */
  number: number;
  /** Headers of the newest delivery, because the upload path of a large result can change. */
  headers: TaskHeaders;
  state: 'queued' | 'running' | 'answering';
  delivery: AttemptDelivery | undefined;
  deliveredAtMs: number;
  startedAtMs: number | undefined;
  outcome: Outcome | undefined;
}

const REMEMBERED = 10_000;

export class Attempts {
  /** Queued or running attempts, by task. */
  readonly #open = new Map<string, Attempt>();
  readonly #answering = new Map<string, Attempt>();
  /** Highest answered number, by task. */
  readonly #answered = new BoundedMap<number>(REMEMBERED);
  readonly #cancelled = new BoundedMap<true>(REMEMBERED);

  /** Handles a delivery. Returns a new attempt to run, or undefined if there is nothing to run. */
  receive(taskId: string, headers: TaskHeaders, delivery: AttemptDelivery, nowMs: number): Attempt | undefined {
    const number = headers['funcx-attempt'];
    const open = this.#open.get(taskId);
    if (open) {
      adopt(open, number, headers, delivery, nowMs);
      return undefined;
    }
    const answering = this.#answering.get(taskId);
    // A higher number after a failure is the user's retry and must run. After a success, it only means that the service has not
    // received the result.
    if (answering && (number <= answering.number || !answering.outcome?.error)) {
      adopt(answering, number, headers, delivery, nowMs);
      return undefined;
    }
    if ((this.#answered.get(taskId) ?? 0) >= number) {
      delivery.ack();
      return undefined;
    }
    const attempt: Attempt = {
      taskId,
      number,
      headers,
      state: 'queued',
      delivery,
      deliveredAtMs: nowMs,
      startedAtMs: undefined,
      outcome: undefined,
    };
    this.#open.set(taskId, attempt);
    return attempt;
  }

  open(taskId: string): Attempt | undefined {
    return this.#open.get(taskId);
  }

  start(attempt: Attempt, nowMs: number): void {
    if (attempt.state !== 'queued') throw new Error(`an attempt that is ${attempt.state} cannot start`);
    attempt.state = 'running';
    attempt.startedAtMs = nowMs;
  }

  /** Records the outcome. Returns false if the attempt was given back or already has an outcome. */
  finish(attempt: Attempt, outcome: Outcome): boolean {
    if (this.#open.get(attempt.taskId) !== attempt) return false;
    this.#open.delete(attempt.taskId);
    attempt.state = 'answering';
    attempt.outcome = outcome;
    this.#answering.set(attempt.taskId, attempt);
    return true;
  }

  /** Acknowledges the task. Call it only after the broker confirmed the result. */
  answered(attempt: Attempt): void {
    if (attempt.state !== 'answering') throw new Error(`an attempt that is ${attempt.state} has no answer`);
    if (this.#answering.get(attempt.taskId) === attempt) this.#answering.delete(attempt.taskId);
    this.#answered.set(attempt.taskId, Math.max(attempt.number, this.#answered.get(attempt.taskId) ?? 0));
    attempt.delivery?.ack();
    attempt.delivery = undefined;
  }

  /** Remembers that a task was cancelled, because its delivery may arrive after the command. */
  cancel(taskId: string): void {
    this.#cancelled.set(taskId, true);
  }

  isCancelled(taskId: string): boolean {
    return this.#cancelled.get(taskId) === true;
  }

  /** Acknowledges attempts delivered before `beforeMs` and returns their number. From then on, only heartbeats keep them. */
  acknowledgeOld(beforeMs: number): number {
    let count = 0;
    for (const attempt of this.#held()) {
      if (attempt.delivery === undefined || attempt.deliveredAtMs > beforeMs) continue;
      attempt.delivery.ack();
      attempt.delivery = undefined;
      count++;
    }
    return count;
  }

  /** Requeues attempts, for another agent or a later start. The service detects early-acknowledged attempts as lost. */
  giveBack(which: (attempt: Attempt) => boolean): Attempt[] {
    const given = [...this.#open.values()].filter(which);
    for (const attempt of given) {
      this.#open.delete(attempt.taskId);
      attempt.delivery?.nack(true);
      attempt.delivery = undefined;
    }
    return given;
  }

  /** True if a task of the batch has started. A requeued batch could run it again, in a process that does not know it. */
  isInStartedBatch({ delivery }: Attempt): boolean {
    const batch = delivery?.batch;
    if (!batch) return false;
    if (batch.open < batch.size) return true;
    for (const other of this.#held()) if (other.delivery?.batch === batch && other.state !== 'queued') return true;
    return false;
  }

  heldNames(): string[] {
    return [...this.#held()].map(nameOf);
  }

  /** Returns the names of running attempts that started by `beforeMs`. Default: all running attempts. */
  runningNames(beforeMs = Infinity): string[] {
    const running: string[] = [];
    for (const attempt of this.#open.values()) {
      if (attempt.startedAtMs !== undefined && attempt.startedAtMs <= beforeMs) running.push(nameOf(attempt));
    }
    return running;
  }

  get counts(): { queued: number; running: number; answering: number } {
    let running = 0;
    for (const attempt of this.#open.values()) if (attempt.state === 'running') running++;
    return { queued: this.#open.size - running, running, answering: this.#answering.size };
  }

  *#held(): Generator<Attempt> {
    yield* this.#open.values();
    yield* this.#answering.values();
  }
}

const nameOf = (attempt: Attempt): string => attemptName(attempt.taskId, attempt.number);

/** Replaces the delivery of an attempt by a redelivery, a repeated dispatch or a delivery with a higher number. */
function adopt(attempt: Attempt, number: number, headers: TaskHeaders, delivery: AttemptDelivery, nowMs: number): void {
  if (number < attempt.number) {
    delivery.ack(); // superseded
    return;
  }
  attempt.delivery?.ack(); // the old copy of a repeated dispatch is not needed; after a redelivery, this has no effect
  attempt.delivery = delivery;
  attempt.deliveredAtMs = nowMs;
  attempt.number = number;
  attempt.headers = headers;
}

class BoundedMap<V> {
  readonly #map = new Map<string, V>();

  constructor(private readonly limit: number) {}

  get(key: string): V | undefined {
    return this.#map.get(key);
  }

  set(key: string, value: V): void {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size <= this.limit) return;
    const oldest = this.#map.keys().next();
    if (!oldest.done) this.#map.delete(oldest.value);
  }
}
