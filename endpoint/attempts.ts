import type { ReceivedBatch } from '../broker';
import type { TaskHeaders } from '../contracts/frames';
import { attemptName } from '../contracts/frames';

import type { Outcome } from './runners/runner';

/**
 * What the agent holds. One attempt is:
 *
 * | state | meaning | next |
 * |---|---|---|
 * | `queued` | delivered; its body is fetched, or it waits for a slot | running, answering (cancelled), gone (given back) |
 * | `running` | a slot runs it | answering, gone (the agent ends) |
 * | `answering` | its outcome is known; not yet confirmed by the broker | answered |
 * | answered | confirmed and acknowledged; only its number is remembered | |
 *
 * Beside the state, an attempt may have a delivery to acknowledge. It has none after an early acknowledgement; one of a
 * connection or channel that is gone does nothing when acknowledged, and a redelivery takes its place.
 */

/** The part of a broker's delivery that matters here. */
export interface AttemptDelivery {
  ack(): void;
  nack(requeue: boolean): void;
  readonly batch?: ReceivedBatch;
}

export interface Attempt {
  readonly taskId: string;
  /** The newest number that was delivered: one run answers them all. */
  number: number;
  /** Of the newest delivery: where a large result may be left can change. */
  headers: TaskHeaders;
  state: 'queued' | 'running' | 'answering';
  delivery: AttemptDelivery | undefined;
  deliveredAtMs: number;
  startedAtMs: number | undefined;
  outcome: Outcome | undefined;
}

const REMEMBERED = 10_000;

export class Attempts {
  /** Queued or running, by task. */
  readonly #open = new Map<string, Attempt>();
  /** Not yet confirmed, by task. */
  readonly #answering = new Map<string, Attempt>();
  /** Highest answered number, by task. */
  readonly #answered = new BoundedMap<number>(REMEMBERED);
  readonly #cancelled = new BoundedMap<true>(REMEMBERED);

  /** Takes a delivery in. Returns a new attempt that must be run, or undefined when the delivery is dealt with. */
  receive(taskId: string, headers: TaskHeaders, delivery: AttemptDelivery, nowMs: number): Attempt | undefined {
    const number = headers['funcx-attempt'];
    const open = this.#open.get(taskId);
    if (open) {
      adopt(open, number, headers, delivery, nowMs);
      return undefined;
    }
    const answering = this.#answering.get(taskId);
    // A higher number after a failure is the user's retry and must run; after a success it can only be a lost answer.
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

  /** The attempt of a task that is queued or running. */
  open(taskId: string): Attempt | undefined {
    return this.#open.get(taskId);
  }

  start(attempt: Attempt, nowMs: number): void {
    if (attempt.state !== 'queued') throw new Error(`an attempt that is ${attempt.state} does not start`);
    attempt.state = 'running';
    attempt.startedAtMs = nowMs;
  }

  /** The outcome is known. False when the attempt was given back meanwhile, or has its outcome. */
  finish(attempt: Attempt, outcome: Outcome): boolean {
    if (this.#open.get(attempt.taskId) !== attempt) return false;
    this.#open.delete(attempt.taskId);
    attempt.state = 'answering';
    attempt.outcome = outcome;
    this.#answering.set(attempt.taskId, attempt);
    return true;
  }

  /** The broker has the result: now, and only now, the task may go. */
  answered(attempt: Attempt): void {
    if (attempt.state !== 'answering') throw new Error(`an attempt that is ${attempt.state} has no answer`);
    if (this.#answering.get(attempt.taskId) === attempt) this.#answering.delete(attempt.taskId);
    this.#answered.set(attempt.taskId, Math.max(attempt.number, this.#answered.get(attempt.taskId) ?? 0));
    attempt.delivery?.ack();
    attempt.delivery = undefined;
  }

  /** Remembers that a task was cancelled: its delivery may come after the command. */
  cancel(taskId: string): void {
    this.#cancelled.set(taskId, true);
  }

  isCancelled(taskId: string): boolean {
    return this.#cancelled.get(taskId) === true;
  }

  /** Acknowledges what was delivered before `beforeMs`; heartbeats alone keep it from then on. */
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

  /** Gives attempts back to the queue, for another agent or a later start. Those acknowledged early are missed by the service. */
  giveBack(which: (attempt: Attempt) => boolean): Attempt[] {
    const given = [...this.#open.values()].filter(which);
    for (const attempt of given) {
      this.#open.delete(attempt.taskId);
      attempt.delivery?.nack(true);
      attempt.delivery = undefined;
    }
    return given;
  }

  /**
   * True if a task that came in the same batch has run. Requeuing the batch would run that task again, in another process,
   * where nobody knows that it has run.
   */
  isInStartedBatch({ delivery }: Attempt): boolean {
    const batch = delivery?.batch;
    if (!batch) return false;
    if (batch.open < batch.size) return true;
    for (const other of this.#held()) if (other.delivery?.batch === batch && other.state !== 'queued') return true;
    return false;
  }

  /** As heartbeats name them. */
  heldNames(): string[] {
    return [...this.#held()].map(nameOf);
  }

  /** The names of those that a worker has run since before `beforeMs`. */
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

/** Puts a redelivery, a repeated dispatch or a newer number in the place of what an attempt had. */
function adopt(attempt: Attempt, number: number, headers: TaskHeaders, delivery: AttemptDelivery, nowMs: number): void {
  if (number < attempt.number) {
    delivery.ack(); // superseded
    return;
  }
  attempt.delivery?.ack(); // of a repeated dispatch: one is enough; of a redelivery: does nothing
  attempt.delivery = delivery;
  attempt.deliveredAtMs = nowMs;
  attempt.number = number;
  attempt.headers = headers;
}

/** Forgets its oldest entries. */
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
