import { failure, FUNCTION_KINDS, kindOf, type Call, type FunctionKind, type Outcome, type Runner } from './runner';

/**
 * The agent's concurrency: a fixed number of slots for functions of all kinds. Owners take turns, so that the queued calls of one
 * owner do not delay the calls of another. Calls of one owner and kind run in order of arrival. There are two
 * exceptions. An owner who needs a new worker lets others pass for a while. An owner whose new worker would end the worker of
 * another owner waits a moment for a worker of its own, even if a slot is free.
 *
 * | slot state | entered by | left by |
 * |---|---|---|
 * | free | the start, an outcome | a call -> busy |
 * | busy | a call | its runner's outcome -> free |
 * | stopping | `stop`, or the end of the walltime | the runner's outcome, replaced by the reason -> free |
 */

export interface SlotCall extends Call {
  /** The worker is stopped if the call runs longer. */
  walltimeMs?: number;
  onStart(): void;
  onWithdrawn(): void;
  onOutcome(outcome: Outcome): void;
}

/** Weight of the latest call in the moving mean of the run time. */
const LATEST_SHARE = 0.1;
/** Calls per second that one agent can handle, however short the calls are. */
const MAX_CAPACITY = 2_000;
/** How long an owner who needs a new worker lets others pass. */
const PASS_MS = 2_000;
/** How long an owner whose start would end another owner's worker leaves a slot free. A start takes several times as long. */
const CROWDED_MS = 50;

interface WaitingOwner {
  owner: string;
  /** Without kinds that have no call. The kinds take turns. */
  calls: Map<FunctionKind, SlotCall[]>;
  /** When the owner had a turn, or else when the first call arrived. */
  sinceMs: number;
  /** Since when another owner has had a turn of this owner, who needs another worker. Undefined once it is started. */
  passedSinceMs?: number;
}

type MakeRunners = () => Record<FunctionKind, Runner>;

interface Slot {
  runners: Record<FunctionKind, Runner>;
  present: { call: SlotCall; runner: Runner; stopped?: { code: string; sentence: string } } | undefined;
}

export class Slots {
  readonly #slots: Slot[];
  readonly #free: Slot[];
  /** In the order of their turns: an owner who had a turn moves to the end. */
  readonly #waiting = new Map<string, WaitingOwner>();
  #timer: NodeJS.Timeout | undefined;
  #meanMs: number | undefined;

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

  /** Calls per second if calls like the latest ones fill all slots. Undefined before the first call. */
  get capacity(): number | undefined {
    if (this.#meanMs === undefined) return undefined;
    return Number(Math.min(MAX_CAPACITY, (this.total * 1_000) / this.#meanMs).toPrecision(3));
  }

  warm(kind: FunctionKind): void {
    for (const slot of this.#slots) slot.runners[kind].warm();
  }

  async whyNotReady(kind: FunctionKind): Promise<string | undefined> {
    return (this.#free.at(-1) ?? this.#slots[0])?.runners[kind].whyNotReady();
  }

  add(call: SlotCall): void {
    const { owner } = call;
    const kind = kindOf(call.buffer);
    const waiting = this.#waiting.get(owner) ?? { owner, calls: new Map<FunctionKind, SlotCall[]>(), sinceMs: Date.now() };
    this.#waiting.set(owner, waiting);
    const calls = waiting.calls.get(kind);
    if (calls) calls.push(call);
    else waiting.calls.set(kind, [call]);
    this.#fill();
  }

  /** Removes a call that waits for a slot. Only its `onWithdrawn` is called. */
  withdraw(taskId: string): void {
    for (const waiting of this.#waiting.values()) {
      for (const [kind, calls] of waiting.calls) {
        const withdrawn = calls.filter((call) => call.taskId === taskId);
        if (withdrawn.length === 0) continue;
        const left = calls.filter((call) => call.taskId !== taskId);
        if (left.length > 0) waiting.calls.set(kind, left);
        else waiting.calls.delete(kind);
        if (waiting.calls.size === 0) this.#waiting.delete(waiting.owner);
        for (const call of withdrawn) call.onWithdrawn();
      }
    }
  }

  /** Stops the worker of a running call. The outcome of the call is then a failure with this code. */
  stop(taskId: string, code: string, sentence: string): void {
    for (const slot of this.#slots) if (slot.present?.call.taskId === taskId) stopSlot(slot, code, sentence);
  }

  /** Ends all workers. Running calls are lost; waiting calls are dropped. */
  async close(graceMs: number): Promise<void> {
    this.#waiting.clear();
    clearTimeout(this.#timer);
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
    const ranMs = Math.max(0, outcome.endedNs - outcome.startedNs) / 1e6;
    this.#meanMs = this.#meanMs === undefined ? ranMs : this.#meanMs + LATEST_SHARE * (ranMs - this.#meanMs);
    // A call that ended just before it was stopped keeps its own outcome.
    if (present.stopped && outcome.isLost) {
      const { code, sentence } = present.stopped;
      outcome = { ...failure(code, sentence, outcome.startedNs), details: outcome.details };
    }
    slot.present = undefined;
    this.#free.push(slot);
    this.#fill();
    call.onOutcome(outcome);
  }

  #fill(): void {
    for (let slot = this.#free.at(-1); slot !== undefined; slot = this.#free.at(-1)) {
      const next = this.#takeNext(slot);
      if (!next) return;
      this.#free.pop();
      void this.#run(slot, next);
    }
  }

  /** Returns undefined if no call waits, or if all waiting calls should wait for busy workers. */
  #takeNext({ runners }: Slot): SlotCall | undefined {
    const [front] = this.#waiting.values();
    if (front === undefined) return undefined;
    const waitedMs = Date.now() - front.sinceMs;
    if (waitedMs > PASS_MS) return this.#takeFrom(front);
    let start: { waiting: WaitingOwner; kind: FunctionKind } | undefined;
    for (const waiting of this.#waiting.values()) {
      for (const kind of waiting.calls.keys()) {
        const readiness = runners[kind].readinessFor(waiting.owner);
        if (readiness === 'start') start ??= { waiting, kind };
        if (readiness !== 'ready') continue;
        if (start?.waiting === front) {
          front.passedSinceMs ??= Date.now();
          // Turns with the workers that the owner has do not count: they would keep the owner at these workers.
          if (Date.now() - front.passedSinceMs > PASS_MS) return this.#takeFrom(front, start.kind, { isStart: true });
          runners[start.kind].prepareFor(front.owner);
        }
        return this.#takeFrom(waiting, kind);
      }
    }
    if (start) return this.#takeFrom(start.waiting, start.kind, { isStart: true });
    if (waitedMs >= CROWDED_MS) return this.#takeFrom(front);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#fill();
    }, CROWDED_MS - waitedMs);
    return undefined;
  }

  #takeFrom(waiting: WaitingOwner, kind = waiting.calls.keys().next().value, { isStart = false } = {}): SlotCall | undefined {
    if (kind === undefined) return undefined;
    const { owner, calls } = waiting;
    const ofKind = calls.get(kind) ?? [];
    const call = ofKind.shift();
    calls.delete(kind);
    if (ofKind.length > 0) calls.set(kind, ofKind);
    this.#waiting.delete(owner);
    if (calls.size > 0) {
      const passedSinceMs = isStart ? undefined : waiting.passedSinceMs;
      this.#waiting.set(owner, { ...waiting, sinceMs: Date.now(), passedSinceMs });
    }
    return call;
  }

  /** Stops the call at its walltime, which may be longer than the 24 days of setTimeout. */
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
