import { failure, nowNs, type Call, type Outcome, type Readiness, type Runner } from './runner';
import { WorkerProcess, type WorkerProcessOptions } from './worker-process';

/**
 * The worker processes of one kind. A process serves one owner for its whole life, so that nothing that a function leaves
 * behind in a process is ever seen by another owner's.
 *
 * Calls of an owner run in a process of that owner, else in one that serves nobody yet. As soon as a second owner is seen,
 * one started process is kept that serves nobody, so that the next owner need not wait for a start. Processes that rest stay
 * warm for their owners, up to {@link WARM_OWNERS} beside one for each slot; beyond that the one that rested longest ends.
 */

/** A start costs about as much processor time as 2,000 short calls, so the processes of a few more owners are kept. */
const WARM_OWNERS = 8;
const START_TRIES = 3;
const START_BACKOFF_MS = 300;

export interface WorkerPoolOptions extends WorkerProcessOptions {
  /** Calls that run at the same time at most. */
  slots: number;
  /** Other owners are expected: a process is kept for them from the start. */
  isShared?: boolean;
  /** The body of a call for the process, from its task buffer; throws when no process can run the call. */
  bodyOf?: (buffer: string) => string;
}

interface Member {
  process: WorkerProcess;
  isTaken: boolean;
  /** Order of release. */
  restsSince: number;
}

export class WorkerPool {
  #members: Member[] = [];
  #isClosed = false;
  #hasServed = false;
  #isShared: boolean;
  #releases = 0;

  constructor(private readonly options: WorkerPoolOptions) {
    this.#isShared = options.isShared ?? false;
  }

  /** The view of one slot. */
  runner(): Runner {
    return new PooledRunner(this);
  }

  /** Starts a process for each slot. */
  warm(): void {
    while (!this.#isClosed && this.#living().length < this.options.slots) this.#start();
  }

  readinessFor(owner: string): Readiness {
    const living = this.#living();
    const free = living.filter(({ process, isTaken }) => !isTaken && process.wasReady);
    if (free.some(({ process }) => process.owner === owner)) return 'ready';
    const isFull = living.filter(({ process }) => process.owner !== undefined).length >= this.#capacity;
    if (living.some(({ process }) => process.owner === owner)) return isFull ? 'crowded' : 'start';
    return !isFull && free.some(({ process }) => process.owner === undefined) ? 'ready' : 'start';
  }

  async whyNotReady(): Promise<string | undefined> {
    if (this.#living().some(({ process }) => process.wasReady)) return undefined;
    const { process } = this.#living()[0] ?? this.#start();
    return process.ready.then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  /** Starts a process for this owner while others go on; one start at a time. */
  prepare(owner: string): void {
    const living = this.#living();
    if (this.#isClosed || living.some(({ process }) => !process.wasReady)) return;
    if (living.some(({ process }) => process.owner === owner || process.owner === undefined)) return;
    try {
      this.#start().process.serve(owner);
    } catch {
      // The folders cannot be made: the call itself fails with the reason.
    }
  }

  /** A process for one call of this owner, perhaps one that is still starting. Give it back with `release`. */
  take(owner: string): WorkerProcess {
    const free = this.#living().filter(({ isTaken }) => !isTaken);
    const ofOwner = free.filter(({ process }) => process.owner === owner);
    const own = ofOwner.find(({ process }) => process.wasReady) ?? ofOwner[0];
    const unassigned = free.filter(({ process }) => process.owner === undefined);
    const member = own ?? unassigned.find(({ process }) => process.wasReady) ?? unassigned[0] ?? this.#start();
    if (own === undefined) {
      member.process.serve(owner);
      this.#isShared ||= this.#living().some(({ process }) => process.owner !== undefined && process.owner !== owner);
    }
    member.isTaken = true;
    this.#keepSpare();
    return member.process;
  }

  release(process: WorkerProcess): void {
    const member = this.#members.find((one) => one.process === process);
    if (member === undefined) return; // it has ended
    member.isTaken = false;
    member.restsSince = ++this.#releases;
    const assigned = this.#living().filter((one) => one.process.owner !== undefined);
    const surplus = assigned.length - this.#capacity;
    if (surplus <= 0) return;
    const resting = assigned.filter((one) => !one.isTaken && one.process.wasReady).sort((a, b) => a.restsSince - b.restsSince);
    for (const { process: old } of resting.slice(0, surplus)) old.stop(0);
  }

  /** Runs a call. `onProcess` hears which process is going to run it, and says whether the call is still wanted. */
  async run(call: Call, onProcess: (process: WorkerProcess) => boolean): Promise<Outcome> {
    const startedNs = nowNs();
    let body: string;
    try {
      body = this.options.bodyOf?.(call.buffer) ?? call.buffer;
    } catch (error) {
      return failure('InvalidTask', `Task ${call.taskId} cannot be run: ${String(error)}`);
    }
    const stopped = (): Outcome => ({ ...failure('WorkerLost', 'The call was stopped.', startedNs), isLost: true });
    for (let tries = 1; ; tries++) {
      let process: WorkerProcess;
      try {
        process = this.take(call.owner);
      } catch (error) {
        return cannotStart(error instanceof Error ? error.message : String(error), startedNs);
      }
      try {
        if (!onProcess(process)) return stopped();
        const problem = await process.ready.then(
          () => undefined,
          (error: Error) => error,
        );
        if (!onProcess(process)) return stopped();
        if (!problem && process.hasExited) continue; // died while it was idle; this call is not harmed
        if (!problem) return await process.call(call, body);
        if (tries >= START_TRIES || this.#isClosed) return cannotStart(problem.message, startedNs);
      } finally {
        this.release(process);
      }
      await new Promise((resolve) => setTimeout(resolve, START_BACKOFF_MS * tries));
    }
  }

  /** Ends all processes for good. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    const members = [...this.#members];
    for (const { process } of members) process.stop(graceMs);
    await Promise.all(members.map(({ process }) => process.exited));
  }

  /** Processes that serve an owner. */
  get #capacity(): number {
    return this.options.slots + WARM_OWNERS;
  }

  #living(): Member[] {
    return this.#members.filter(({ process }) => !process.isDying);
  }

  #hasSpare(): boolean {
    return this.#living().some(({ process, isTaken }) => !isTaken && process.owner === undefined);
  }

  /** Keeps one process that serves nobody, where several owners share the endpoint. */
  #keepSpare(): void {
    if (!this.#isClosed && this.#isShared && this.#hasServed && !this.#hasSpare()) this.#start();
  }

  #start(): Member {
    const process = new WorkerProcess(this.options);
    const member: Member = { process, isTaken: false, restsSince: 0 };
    this.#members.push(member);
    process.ready.then(
      () => {
        this.#hasServed = true;
        this.#keepSpare();
      },
      () => undefined, // the next call tries again
    );
    void process.exited.then(() => {
      this.#members = this.#members.filter((one) => one !== member);
      const { owner } = process;
      if (owner !== undefined && !this.#members.some((one) => one.process.owner === owner)) this.options.folders.ownerLeft(owner);
      // One that served is replaced at once; one that could not start waits for the next call.
      if (!process.wasReady || this.#isClosed) return;
      if (!this.#hasSpare() && this.#living().length < this.options.slots) this.#start();
      this.#keepSpare();
    });
    return member;
  }
}

class PooledRunner implements Runner {
  #process: WorkerProcess | undefined;
  #isStopped = false;

  constructor(private readonly pool: WorkerPool) {}

  async run(call: Call): Promise<Outcome> {
    this.#isStopped = false;
    try {
      return await this.pool.run(call, (process) => {
        this.#process = process;
        return !this.#isStopped;
      });
    } finally {
      this.#process = undefined;
    }
  }

  readinessFor(owner: string): Readiness {
    return this.pool.readinessFor(owner);
  }

  prepareFor(owner: string): void {
    this.pool.prepare(owner);
  }

  warm(): void {
    this.pool.warm();
  }

  whyNotReady(): Promise<string | undefined> {
    return this.pool.whyNotReady();
  }

  stop(): void {
    this.#isStopped = true;
    this.#process?.stop();
  }

  close(graceMs: number): Promise<void> {
    return this.pool.close(graceMs);
  }
}

function cannotStart(reason: string, startedNs: number): Outcome {
  return { ...failure('EndpointFailed', reason, startedNs), cannotStart: reason };
}
