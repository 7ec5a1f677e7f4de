import { failure, FUNCTION_KINDS, kindOf, type Call, type FunctionKind, type Outcome, type Runner } from './runner';

/**
 * The agent's concurrency: a fixed number of slots for functions of all kinds. First come, first served, but a call for
 * which a worker would have to start lets later calls pass for a while, so that each owner gets runs of calls.
 *
 * | slot state | entered by | left by |
 * |---|---|---|
 * | free | begin, an outcome | a call -> busy |
 * | busy | a call | its runner's outcome -> free |
 * | stopping | `stop`, or the walltime of a busy one | the runner's outcome, replaced by the reason -> free |
 */

export interface SlotCall extends Call {
  /** The worker is stopped when the call runs longer. */
  walltimeMs?: number;
  onStart(): void;
  onWithdrawn(): void;
  onOutcome(outcome: Outcome): void;
}

/** How long a call that needs a new worker lets others pass. */
const PASS_MS = 2_000;

interface WaitingCall {
  call: SlotCall;
  sinceMs: number;
}

type MakeRunners = () => Record<FunctionKind, Runner>;

interface Slot {
  runners: Record<FunctionKind, Runner>;
  present: { call: SlotCall; runner: Runner; stopped?: { code: string; sentence: string } } | undefined;
}

export class Slots {
  readonly #slots: Slot[];
  readonly #free: Slot[];
  #queue: WaitingCall[] = [];

  constructor(count: number, makeRunners: MakeRunners) {
    this.#slots = Array.from({ length: count }, () => ({ runners: makeRunners(), present: undefined }));
    this.#free = [...this.#slots].reverse();
  }

  get total(): number {
    return this.#slots.length;
  }

  get idle(): number {
    return this.#free.length;
  }

  /** Starts a worker of this kind in every slot, before the first call needs it. */
  warm(kind: FunctionKind): void {
    for (const slot of this.#slots) slot.runners[kind].warm();
  }

  /** Why no worker of this kind can be started, or undefined when one is ready. */
  async whyNotReady(kind: FunctionKind): Promise<string | undefined> {
    return (this.#free.at(-1) ?? this.#slots[0])?.runners[kind].whyNotReady();
  }

  add(call: SlotCall): void {
    const slot = this.#free.pop();
    if (slot) void this.#run(slot, call);
    else this.#queue.push({ call, sinceMs: Date.now() });
  }

  /** Takes a call back that waits for a slot. It hears `onWithdrawn` and nothing more. */
  withdraw(taskId: string): void {
    const withdrawn = this.#queue.filter(({ call }) => call.taskId === taskId);
    if (withdrawn.length === 0) return;
    this.#queue = this.#queue.filter(({ call }) => call.taskId !== taskId);
    for (const { call } of withdrawn) call.onWithdrawn();
  }

  /** Stops the worker of a running call; its outcome is then a failure with this code. */
  stop(taskId: string, code: string, sentence: string): void {
    for (const slot of this.#slots) if (slot.present?.call.taskId === taskId) stopSlot(slot, code, sentence);
  }

  /** Ends all workers. Calls that still run are lost; those that wait are forgotten. */
  async close(graceMs: number): Promise<void> {
    this.#queue = [];
    const runners = this.#slots.flatMap((slot) => FUNCTION_KINDS.map((kind) => slot.runners[kind]));
    await Promise.all(runners.map((runner) => runner.close(graceMs)));
  }

  async #run(slot: Slot, call: SlotCall): Promise<void> {
    const runner = slot.runners[kindOf(call.buffer)];
    const present: NonNullable<Slot['present']> = { call, runner };
    slot.present = present;
    call.onStart();
    const timer = call.walltimeMs === undefined ? undefined : this.#limit(slot, call.taskId, call.walltimeMs);
    let outcome = await runner.run(call);
    clearTimeout(timer?.handle);
    // A call that answered just before it was stopped has its own outcome.
    if (present.stopped && outcome.isLost) {
      const { code, sentence } = present.stopped;
      outcome = { ...failure(code, sentence, outcome.startedNs), details: outcome.details };
    }
    slot.present = undefined;
    const next = this.#takeNext(slot);
    if (next) void this.#run(slot, next);
    else this.#free.push(slot);
    call.onOutcome(outcome);
  }

  #takeNext({ runners }: Slot): SlotCall | undefined {
    const isReady = ({ call }: WaitingCall): boolean => runners[kindOf(call.buffer)].isReadyFor(call.owner);
    const head = this.#queue[0];
    if (head === undefined || isReady(head) || Date.now() - head.sinceMs > PASS_MS) return this.#queue.shift()?.call;
    const at = this.#queue.findIndex(isReady);
    if (at > 0) runners[kindOf(head.call.buffer)].prepareFor(head.call.owner);
    return this.#queue.splice(Math.max(at, 0), 1)[0]?.call;
  }

  /** A timer that may be longer than setTimeout's 24 days. */
  #limit(slot: Slot, taskId: string, walltimeMs: number): { handle: NodeJS.Timeout } {
    const endMs = Date.now() + walltimeMs;
    const sentence = `Task ${taskId} ran longer than its walltime of ${walltimeMs / 1000} s and was stopped.`;
    const arm = (): NodeJS.Timeout =>
      setTimeout(
        () => {
          if (Date.now() >= endMs) stopSlot(slot, 'WalltimeExceeded', sentence);
          else timer.handle = arm();
        },
        Math.min(endMs - Date.now(), 2 ** 31 - 1),
      );
    const timer = { handle: arm() };
    return timer;
  }
}

function stopSlot(slot: Slot, code: string, sentence: string): void {
  if (!slot.present) return;
  slot.present.stopped ??= { code, sentence };
  slot.present.runner.stop();
}
