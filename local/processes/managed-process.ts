import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import cluster from 'node:cluster';
import { closeSync, openSync, renameSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { HANDS_OVER, SERVES, SUCCESSOR_SERVES } from '../../contracts/names';

import { tailOf } from '../machine/files';
import { messageOf, UserError } from '../machine/user-error';
import { sendSignal, waitUntilGone } from './process-identity';

import type { ProcessIdentity } from './process-identity';
import type { ProcessRegistry } from './process-registry';

const READY_POLL_MS = 50;
const FIRST_BACKOFF_MS = 500;
const LONGEST_BACKOFF_MS = 30_000;
/** A process that lives this long after it was ready starts again with the shortest backoff. */
const STABLE_MS = 60_000;
const FAULT_POLL_MS = 2_000;
/** A shorter fault may pass without a restart: a queue has no leader for a moment while it elects one. */
const FAULT_LASTS_MS = 10_000;
const LOG_ROTATE_BYTES = 20 * 1024 * 1024;

export interface Program {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number;
  gid?: number;
}

export interface ManagedProcessOptions {
  name: string;
  program: Program;
  log: string;
  /** Polled until true; a rejection means "not yet". 'says so': replicas share a port, so each sends a message instead. */
  isReady: 'says so' | ((pid: number) => Promise<boolean>);
  readyWithinMs: number;
  /** Polled while the process serves. Resolves to a fault that only a restart cures; a rejection means "unknown". */
  findFault?: () => Promise<string | undefined>;
  /** Called before each start. Cleans up what a killed predecessor may have left. */
  beforeStart?: () => Promise<void>;
  stopSignal?: NodeJS.Signals;
  stopWithinMs?: number;
  registry: ProcessRegistry;
  say: (line: string) => void;
  /** Called when `pid` or `state` changed. */
  onChange: () => void;
}

interface Run {
  identity: ProcessIdentity | undefined;
  child: ChildProcess;
  exited: Promise<string>;
  /** Resolves when the process exits or hands over. */
  left: Promise<string>;
}

export type ProcessState = 'stopped' | 'starting' | 'ready' | 'waiting to restart' | 'stopping';

/**
 * A child process that is restarted when it dies.
 *
 *   stopped --start--> starting --isReady--> ready --exit--> waiting to restart --backoff--> starting ...
 *   ready --a fault that lasts--> waiting to restart --exit, backoff--> starting ...
 *   ready --hands over--> starting ... (its successor, without backoff; the predecessor exits later)
 *   any --stop--> stopping --exit--> stopped
 *
 * Only the first `start` can fail. After that, the process is restarted after each exit, with exponential backoff.
 */
export class ManagedProcess {
  readonly #options: ManagedProcessOptions;
  readonly #stopped = new AbortController();
  #state: ProcessState = 'stopped';
  #current: Run | undefined;
  /** Predecessors that handed over and have not exited yet. */
  readonly #leaving = new Set<Run>();
  #keeper: Promise<void> | undefined;

  constructor(options: ManagedProcessOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get state(): ProcessState {
    return this.#state;
  }

  get identity(): ProcessIdentity | undefined {
    return this.#current?.identity;
  }

  /** Starts the process and waits until it serves. Throws a {@link UserError} with the end of its log if it does not. */
  async start(signal: AbortSignal): Promise<void> {
    const abort = AbortSignal.any([signal, this.#stopped.signal]);
    await this.#launch(abort);
    this.#keeper = this.#keepAlive().catch((error: unknown) => {
      this.#options.say(`${this.name} could not be stopped: ${messageOf(error)}`);
    });
  }

  /** Stops the process: first with its stop signal, then with SIGKILL. Never throws. */
  async stop(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort();
    this.#become('stopping');
    await this.#endAll();
    await this.#keeper;
    this.#become('stopped');
  }

  async #launch(abort: AbortSignal): Promise<void> {
    const { name, program, log, registry, isReady, stopSignal = 'SIGTERM' } = this.#options;
    this.#become('starting');
    await this.#options.beforeStart?.();
    abort.throwIfAborted();
    const output = openLog(log);
    const child = isReady === 'says so' ? forkReplica(program, output) : spawnLeader(program, output);
    closeSync(output);
    let serves = false;
    child.on('message', (message) => (serves ||= message === SERVES));
    let exit: string | undefined;
    const exited = howItEnds(child).then((how) => {
      exit = how;
      this.#forget(run);
      return how;
    });
    const run: Run = {
      child,
      identity: child.pid === undefined ? undefined : registry.add(name, child.pid, stopSignal),
      exited,
      left: Promise.race([exited, handOverOf(child)]),
    };
    this.#current = run;
    this.#options.onChange();
    try {
      await this.#untilReady(child.pid, isReady === 'says so' ? () => Promise.resolve(serves) : isReady, () => exit, abort);
    } catch (error) {
      await this.#end(run);
      throw error;
    }
    this.#become('ready');
    if (this.#options.findFault) void this.#endWhenSick(run, this.#options.findFault);
  }

  async #endWhenSick(run: Run, findFault: () => Promise<string | undefined>): Promise<void> {
    let sinceMs: number | undefined;
    for (;;) {
      await delay(FAULT_POLL_MS, undefined, { ref: false });
      if (run !== this.#current || run.identity === undefined || this.#stopped.signal.aborted) return;
      const fault = await findFault().catch(() => undefined); // unknown
      sinceMs = fault === undefined ? undefined : (sinceMs ?? Date.now());
      if (fault === undefined || sinceMs === undefined || Date.now() - sinceMs < FAULT_LASTS_MS) continue;
      this.#options.say(`${this.name} runs but does not serve: ${fault}; ending it`);
      this.#become('waiting to restart');
      return this.#end(run);
    }
  }

  async #untilReady(
    pid: number | undefined,
    isReady: (pid: number) => Promise<boolean>,
    exit: () => string | undefined,
    abort: AbortSignal,
  ): Promise<void> {
    const { name, log, readyWithinMs } = this.#options;
    const deadline = Date.now() + readyWithinMs;
    let last = '';
    for (;;) {
      abort.throwIfAborted();
      const how = exit();
      if (how !== undefined || pid === undefined) {
        const what = how === undefined ? 'could not be started' : `exited during its start (${how})`;
        throw new UserError(`${name} ${what}. The end of ${log}:\n  ${tailOf(log)}`);
      }
      if (Date.now() > deadline) {
        const why = last === '' ? '' : ` (${last})`;
        throw new UserError(`${name} was not ready after ${readyWithinMs / 1000} s${why}. The end of ${log}:\n  ${tailOf(log)}`);
      }
      try {
        if (await isReady(pid)) return;
      } catch (error) {
        last = messageOf(error);
      }
      await delay(READY_POLL_MS);
    }
  }

  async #keepAlive(): Promise<void> {
    const { name, say } = this.#options;
    const abort = this.#stopped.signal;
    let deaths = 0;
    let readyAt = Date.now();
    for (;;) {
      const run = this.#current;
      const how = await run?.left;
      if (abort.aborted) return;
      if (run && how === HANDS_OVER) {
        this.#leaving.add(run);
        void run.exited.then(() => this.#leaving.delete(run));
        say(`${name} is stopping; starting its successor`);
      } else {
        if (Date.now() - readyAt > STABLE_MS) deaths = 0;
        const backoffMs = Math.min(FIRST_BACKOFF_MS * 2 ** deaths++, LONGEST_BACKOFF_MS);
        this.#become('waiting to restart');
        say(`${name} died (${how}); restarting it in ${backoffMs / 1000} s`);
        await delay(backoffMs, undefined, { signal: abort }).catch(() => undefined);
        if (abort.aborted) return;
      }
      const started = Date.now();
      try {
        await this.#launch(abort);
        this.#leaving.forEach(release);
        readyAt = Date.now();
        say(`${name} is ready again (${((readyAt - started) / 1000).toFixed(1)} s)`);
      } catch (error) {
        if (abort.aborted) return;
        say(messageOf(error));
        readyAt = Date.now();
      }
    }
  }

  async #endAll(): Promise<void> {
    await Promise.all([this.#current, ...this.#leaving].map((run) => this.#end(run)));
  }

  async #end(run: Run | undefined): Promise<void> {
    if (run?.identity === undefined) return;
    const { stopSignal = 'SIGTERM', stopWithinMs = 20_000 } = this.#options;
    const { pid } = run.identity;
    release(run); // no successor will come
    sendSignal(pid, stopSignal);
    if (!(await waitUntilGone([run.identity], stopWithinMs))) [pid, -pid].forEach((target) => sendSignal(target, 'SIGKILL'));
    await run.exited;
  }

  /** After an exit, remaining members of its process group would disturb the next run, so they are killed. */
  #forget(run: Run): void {
    if (run.identity === undefined) return;
    sendSignal(-run.identity.pid, 'SIGKILL');
    this.#options.registry.remove(run.identity);
    run.identity = undefined;
    // The state must never be "ready" while the process does not run.
    if (run === this.#current && this.#state === 'ready') this.#become('waiting to restart');
    else this.#options.onChange();
  }

  #become(state: ProcessState): void {
    this.#state = state;
    this.#options.onChange();
  }
}

function release({ child }: Run): void {
  if (child.connected) child.send(SUCCESSOR_SERVES, () => undefined); // the process may have exited meanwhile
}

function spawnLeader({ command, args, ...rest }: Program, output: number): ChildProcess {
  const stdio: StdioOptions = ['ignore', output, output];
  return spawn(command, args, { ...rest, stdio, detached: true });
}

/** Starts a process that shares listening sockets with its replicas and its successor. The last argument is the script. */
function forkReplica({ args, env, cwd }: Program, output: number): ChildProcess {
  // Each process accepts its own connections, so connections do not pass through the supervisor.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const [execArgv, exec] = [args.slice(0, -1), args.at(-1)];
  cluster.setupPrimary({ exec, execArgv, args: [], cwd, stdio: ['ignore', output, output, 'ipc'] });
  return cluster.fork(env).process;
}

function howItEnds(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : signal));
  });
}

function handOverOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => child.on('message', (message) => message === HANDS_OVER && resolve(HANDS_OVER)));
}

function openLog(path: string): number {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_ROTATE_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, 'a', 0o600);
}
