import { failure, nowNs, type Call, type Outcome, type Readiness, type Runner } from './runner';
import { WorkerProcess, type WorkerProcessOptions } from './worker-process';

/**
 * The worker processes of one kind of function. A process serves one owner for its whole life, so that the functions of another
 * owner never see anything that a function left behind in the process.
 *
 * Calls of an owner run in an idle process of that owner, otherwise in a process that has no owner yet. After a second owner has
 * appeared, the pool keeps one spare process without an owner, so that the next owner need not wait for a start. Idle processes
 * are kept for their owners until more than slots + {@link WARM_OWNERS} processes have an owner. Then the process that has been
 * idle longest ends.
 */

/** A start costs about as much CPU time as 2,000 short calls, so the processes of a few more owners are kept. */
const WARM_OWNERS = 8;
const START_TRIES = 3;
const START_BACKOFF_MS = 300;

export interface WorkerPoolOptions extends WorkerProcessOptions {
  slots: number;
  /** Other owners are expected, so a spare process is kept from the start. */
  isShared?: boolean;
  /** Returns the body to send to the process for a task buffer. Throws if no process can run the call. */
  bodyOf?: (buffer: string) => string;
}

interface Member {
  process: WorkerProcess;
  isTaken: boolean;
  /** Sequence number of the last release. */
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

  runner(): Runner {
    return new PooledRunner(this);
  }

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

  /** Starts a process for this owner while other processes run calls. At most one process starts at a time. */
  prepare(owner: string): void {
    const living = this.#living();
    if (this.#isClosed || living.some(({ process }) => !process.wasReady)) return;
    if (living.some(({ process }) => process.owner === owner || process.owner === undefined)) return;
    try {
      this.#start().process.serve(owner);
    } catch {
      // The folders cannot be created. The call will fail with the reason.
    }
  }

  /** Takes a process for one call of this owner; the process may still be starting. Give it back with `release`. */
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

  /** Runs a call. `onProcess` receives the process for the call and returns whether the call is still wanted. */
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
        if (!problem && process.hasExited) continue; // the process died while it was idle, so take another one
        if (!problem) return await process.call(call, body);
        if (tries >= START_TRIES || this.#isClosed) return cannotStart(problem.message, startedNs);
      } finally {
        this.release(process);
      }
      await new Promise((resolve) => setTimeout(resolve, START_BACKOFF_MS * tries));
    }
  }

  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    const members = [...this.#members];
    for (const { process } of members) process.stop(graceMs);
    await Promise.all(members.map(({ process }) => process.exited));
  }

  get #capacity(): number {
    return this.options.slots + WARM_OWNERS;
  }

  #living(): Member[] {
    return this.#members.filter(({ process }) => !process.isDying);
  }

  #hasSpare(): boolean {
    return this.#living().some(({ process, isTaken }) => !isTaken && process.owner === undefined);
  }

  /** Starts a spare process without an owner, if several owners share the endpoint and there is none. */
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
      () => undefined, // the next call starts another process
    );
    void process.exited.then(() => {
      this.#members = this.#members.filter((one) => one !== member);
      const { owner } = process;
      if (owner !== undefined && !this.#members.some((one) => one.process.owner === owner)) this.options.folders.ownerLeft(owner);
      // A process that was ready is replaced immediately. After a failed start, the next call starts another process.
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
