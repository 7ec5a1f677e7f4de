import { setTimeout as sleep } from 'node:timers/promises';

import { splitBatch, type Broker, type Consumer, type ReceivedMessage } from '../broker';
import { decodeFrame, taskHeadersSchema, type TaskData } from '../contracts/frames';
import type { AgentRegistration } from '../contracts/http/v1';

import type { AgentLog } from './agent-log';
import { maxResultCharsOf, type Answers } from './answers';
import type { Attempt, Attempts } from './attempts';
import type { FetchedBody } from './bodies';
import type { FunctionCodes } from './function-codes';
import { failure, kindOf, OWN, type FunctionKind, type Outcome } from './runners/runner';
import type { Slots } from './runners/slots';

/**
 * Takes tasks from the broker, runs them in slots and sends their results.
 *
 * | state | entered by | left by |
 * |---|---|---|
 * | paused | the start; no worker can be started | `open` -> open; `close` -> closed |
 * | open | `open` | no worker can be started -> paused; `close` -> closed |
 * | closed | `close`: the agent drains or stops | |
 */

export interface IntakeOptions {
  broker: Broker;
  answers: Answers;
  attempts: Attempts;
  codes: FunctionCodes;
  slots: Slots;
  registration: () => AgentRegistration;
  maxWalltimeMs?: number;
  /** Maximum number of unacknowledged messages. A message may be a batch; the service's window limits the tasks. */
  prefetch: number;
  /** Called when no worker of a kind can be started. The intake is then paused. */
  onCannotStart: (kind: FunctionKind, reason: string) => void;
  log: AgentLog;
}

/** How long a result after SIGINT is held back. If the agent gets the signal as well, the task is given back instead. */
const INTERRUPT_GRACE_MS = 1_000;

export class Intake {
  #state: 'paused' | 'open' | 'closed' = 'paused';
  #consumer: Consumer | undefined;
  #onIdle: (() => void) | undefined;

  constructor(private readonly options: IntakeOptions) {}

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  async open(): Promise<void> {
    if (this.#state !== 'paused') return;
    this.#state = 'open';
    const { broker, prefetch, registration } = this.options;
    this.#consumer = await broker.consume({
      queue: () => registration().task_queue,
      prefetch,
      onMessage: (message) => this.#receive(message),
    });
  }

  /** Gives back queued tasks, except in a started batch: requeuing it as a whole would run the started tasks again. */
  async close(): Promise<void> {
    this.#state = 'closed';
    await this.#stopConsuming();
    const { attempts } = this.options;
    this.#giveBackQueued((attempt) => !attempts.isInStartedBatch(attempt));
  }

  /** Stops a queued or running task. Remembers the cancellation of a task that has not arrived yet. */
  cancel(taskId: string): void {
    const { attempts, slots } = this.options;
    attempts.cancel(taskId);
    const attempt = attempts.open(taskId);
    if (!attempt) return;
    if (attempt.state === 'running') {
      slots.stop(taskId, 'Cancelled', `Task ${taskId} was cancelled while it ran.`);
      return;
    }
    slots.withdraw(taskId);
    this.#finish(attempt, failure('Cancelled', `Task ${taskId} was cancelled before it ran.`));
  }

  /** Call it after `close`. Resolves when no attempt is queued or running and every result is confirmed. */
  async whenIdle(): Promise<void> {
    if (!this.#isIdle()) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  #receive(message: ReceivedMessage): void {
    if (this.#state !== 'open') {
      message.nack(true);
      return;
    }
    let deliveries: ReceivedMessage[];
    try {
      deliveries = splitBatch(message);
    } catch (error) {
      this.#reject(message, error);
      return;
    }
    for (const delivery of deliveries) this.#receiveTask(delivery);
  }

  /** Moves the message to the dead letters, because no agent can ever run it. */
  #reject(message: ReceivedMessage, error: unknown): void {
    this.options.log.error({ reason: String(error), bytes: message.body.length }, 'a task message is malformed');
    message.nack(false);
  }

  #receiveTask(delivery: ReceivedMessage): void {
    const { attempts } = this.options;
    let attempt: Attempt | undefined;
    let data: TaskData;
    try {
      const frame = decodeFrame(delivery.body);
      if (frame.message_type !== 'task') throw new SyntaxError(`a ${frame.message_type} frame in place of a task`);
      data = frame.data;
      attempt = attempts.receive(data.task_id, taskHeadersSchema.parse(delivery.headers), delivery, Date.now());
    } catch (error) {
      this.#reject(delivery, error);
      return;
    }
    if (attempt) void this.#accept(attempt, data).catch((error: unknown) => this.#onBug(error));
  }

  async #accept(attempt: Attempt, data: TaskData): Promise<void> {
    const { taskId } = attempt;
    const { attempts, codes, slots, registration, maxWalltimeMs } = this.options;
    if (attempts.isCancelled(taskId)) {
      this.#finish(attempt, failure('Cancelled', `Task ${taskId} was cancelled before it ran.`));
      return;
    }
    let body: FetchedBody | undefined = { text: data.task_buffer, release: () => undefined };
    if (data.claim) {
      try {
        body = await codes.bodyOf(data, () => attempts.open(taskId) === attempt);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#finish(attempt, failure('InvalidTask', `Cannot fetch the body of task ${taskId}: ${reason}`));
        return;
      }
      if (!body) return; // cancelled or given back
    }
    const fetched = body;
    slots.add({
      taskId,
      // Earlier versions of the service do not send the owner of a task.
      owner: attempt.headers['funcx-owner'] ?? OWN,
      buffer: fetched.text,
      resultSerializers: attempt.headers.result_serializers,
      walltimeMs: shorter(attempt.headers['funcx-walltime-ms'], maxWalltimeMs),
      maxResultChars: maxResultCharsOf(registration()),
      onStart: () => {
        fetched.release();
        attempts.start(attempt, Date.now());
      },
      onWithdrawn: () => fetched.release(),
      onOutcome: (outcome) =>
        void this.#settle(attempt, kindOf(fetched.text), outcome).catch((error: unknown) => this.#onBug(error)),
    });
  }

  async #settle(attempt: Attempt, kind: FunctionKind, outcome: Outcome): Promise<void> {
    if (outcome.cannotStart !== undefined) {
      await this.#pause(kind, outcome.cannotStart);
      this.#giveBack(attempt);
      return;
    }
    if (outcome.isInterrupted) {
      // A signal to the agent's whole process group or control group was not caused by the function.
      for (const endMs = Date.now() + INTERRUPT_GRACE_MS; this.#state !== 'closed' && Date.now() < endMs;) await sleep(20);
      if (this.#state === 'closed') return this.#giveBack(attempt);
    }
    this.#finish(attempt, outcome);
  }

  async #pause(kind: FunctionKind, reason: string): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'paused';
    await this.#stopConsuming();
    this.#giveBackQueued();
    this.options.onCannotStart(kind, reason);
  }

  async #stopConsuming(): Promise<void> {
    await this.#consumer?.pause().catch(() => undefined); // not connected, so there is nothing to pause
    this.#consumer = undefined;
  }

  #giveBackQueued(which: (attempt: Attempt) => boolean = () => true): void {
    const { attempts, slots } = this.options;
    for (const { taskId } of attempts.giveBack((attempt) => attempt.state === 'queued' && which(attempt))) slots.withdraw(taskId);
  }

  #giveBack(attempt: Attempt): void {
    this.options.attempts.giveBack((one) => one === attempt);
    if (this.#isIdle()) this.#onIdle?.();
  }

  #finish(attempt: Attempt, outcome: Outcome): void {
    const { attempts, answers, log } = this.options;
    if (!attempts.finish(attempt, outcome)) return; // given back when the agent stopped
    if (outcome.isLost) log.warn({ task: attempt.taskId, reason: outcome.data }, 'a worker was lost');
    answers.send(attempt, outcome).then(
      (isConfirmed) => {
        if (isConfirmed) attempts.answered(attempt);
        if (this.#isIdle()) this.#onIdle?.();
      },
      (error: unknown) => this.#onBug(error),
    );
  }

  #isIdle(): boolean {
    const { queued, running, answering } = this.options.attempts.counts;
    return queued + running + answering === 0;
  }

  /** Logs an unexpected error of one task, which must not stop the other tasks. */
  #onBug(error: unknown): void {
    this.options.log.error({ reason: error instanceof Error ? error.stack : String(error) }, 'unexpected error in the agent');
  }
}

function shorter(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}
