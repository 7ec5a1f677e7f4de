import { spawn } from 'node:child_process';
import { appendFileSync, closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { layoutOf, logFileOf, makeFolders } from './machine/layout';
import { messageOf, UserError } from './machine/user-error';
import { identify, isAlive, sendSignal, waitUntilGone } from './processes/process-identity';
import { ProcessRegistry } from './processes/process-registry';
import { reportOf } from './report';
import { listRunningAgents } from './setup/agent-folder';
import { claimSupervision, livingSupervisor, ownTemporalOf, readState, releaseSupervision } from './setup/state';
import { Supervisor } from './supervisor/supervisor';

import type { Layout } from './machine/layout';
import type { ProcessIdentity } from './processes/process-identity';
import type { UpOptions } from './setup/options';

const FOLLOW_MS = 50;
const GIVE_UP_MS = 90_000;
const HOLD_MS = 60_000;
/** The exit code that shells report after Ctrl-C: the start was cancelled and nothing runs. */
const INTERRUPTED = 130;
const OPEN_TEMPORAL =
  'Every user of this machine can use this Temporal server: it has no login. On a shared host, start with --shared-host.';

/** Starts the system and runs until a signal arrives. Lines go to the console and to the supervisor's log. */
export async function upInForeground(options: UpOptions): Promise<void> {
  const layout = layoutOf(options.dataDir);
  makeFolders(layout);
  const own = identify(process.pid);
  if (own === undefined) throw new Error('this process cannot read its own start time');
  const other = claimSupervision(layout, own);
  if (other !== undefined) return sayRunning(layout, other);
  const log = logFileOf(layout, 'supervisor');
  const isLogItself = process.env.FUNCX_DETACHED === '1'; // then stdout already is that log
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
    if (!isLogItself) appendFileSync(log, `${line}\n`, { mode: 0o600 });
  };
  const supervisor = new Supervisor(layout, options, say);
  const asked = waitForSignal(() => say('stopping'));
  try {
    const stopped = asked.then(() => supervisor.stop());
    try {
      const state = await supervisor.start();
      for (const line of reportOf(state, supervisor.movedPorts)) say(line);
      if (ownTemporalOf(state) !== undefined && state.temporal_access === null) say(OPEN_TEMPORAL);
      if (!isLogItself) say('Ctrl-C stops everything.');
    } catch (error) {
      if (!asked.isAsked()) throw error;
      process.exitCode = INTERRUPTED;
    }
    await stopped;
    say('stopped');
  } finally {
    asked.release();
    releaseSupervision(layout);
  }
}

interface SignalWait extends Promise<void> {
  isAsked: () => boolean;
  release: () => void;
}

/** Resolves at the first SIGINT, SIGTERM or SIGHUP. Later signals have no effect, because the system is already stopping. */
function waitForSignal(onFirst: () => void): SignalWait {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let isAsked = false;
  let listener = (): void => undefined;
  // Signal listeners do not keep Node running. This timer does, even if every part is external.
  const heldOpen = setInterval(() => undefined, HOLD_MS);
  const promise = new Promise<void>((resolve) => {
    listener = (): void => {
      if (!isAsked) onFirst();
      isAsked = true;
      resolve();
    };
    for (const signal of signals) process.on(signal, listener);
  });
  const release = (): void => {
    clearInterval(heldOpen);
    for (const signal of signals) process.off(signal, listener);
  };
  return Object.assign(promise, { isAsked: () => isAsked, release });
}

/** Starts the supervisor as a separate process and shows its lines until the system is ready or has failed. */
export async function upDetached(options: UpOptions, args: string[]): Promise<void> {
  const layout = layoutOf(options.dataDir);
  makeFolders(layout);
  const running = livingSupervisor(layout);
  if (running !== undefined) return sayRunning(layout, running);
  const log = logFileOf(layout, 'supervisor');
  const output = openSync(log, 'a', 0o600);
  const reader = new LogReader(log);
  const child = spawn(process.execPath, ['--enable-source-maps', join(__dirname, 'main.js'), 'up', ...args], {
    detached: true,
    stdio: ['ignore', output, output],
    env: { ...process.env, FUNCX_DETACHED: '1' },
    cwd: process.cwd(),
  });
  closeSync(output);
  const exited = new Promise<number>((resolve) =>
    child.once('exit', (code) => resolve(code ?? 1)).once('error', () => resolve(1)),
  );
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  const asked = waitForSignal(() => identity !== undefined && sendSignal(identity.pid, 'SIGTERM'));
  let exitCode: number | undefined;
  void exited.then((code) => (exitCode = code));
  try {
    for (;;) {
      reader.copyTo(process.stdout);
      const state = readState(layout);
      const isOurs = state?.supervisor.pid === child.pid && state?.supervisor.started === identity?.started;
      if (exitCode !== undefined || (isOurs && state?.phase === 'ready')) {
        await delay(FOLLOW_MS * 2); // the table is printed right after the phase changes
        reader.copyTo(process.stdout);
        // The supervisor exits with 0, and says so, if another one was faster.
        if (exitCode !== undefined && exitCode !== 0)
          throw new UserError(asked.isAsked() ? 'The start was cancelled.' : 'The system did not start; the reason is above.');
        child.unref();
        return;
      }
      await delay(FOLLOW_MS);
    }
  } finally {
    asked.release();
    reader.close();
  }
}

/** Copies what was appended to a file since the last call. */
class LogReader {
  readonly #fd: number;
  #at: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
    this.#at = this.#skip();
  }

  copyTo(target: NodeJS.WritableStream): void {
    const buffer = Buffer.alloc(16_384);
    for (let read = -1; read !== 0;) {
      read = readSync(this.#fd, buffer, 0, buffer.length, this.#at);
      this.#at += read;
      if (read > 0) target.write(Buffer.from(buffer.subarray(0, read)));
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #skip(): number {
    const buffer = Buffer.alloc(65_536);
    let at = 0;
    for (let read = -1; read !== 0; at += read) read = readSync(this.#fd, buffer, 0, buffer.length, at);
    return at;
  }
}

function sayRunning(layout: Layout, supervisor: ProcessIdentity): void {
  const state = readState(layout);
  const where = state === undefined ? '' : `: API ${state.api_url}, Temporal UI ${state.temporal_ui_url ?? 'elsewhere'}`;
  const verb = state?.phase === 'starting' ? 'starting' : 'running';
  process.stdout.write(
    `funcX is already ${verb} from ${layout.dataDir} (process ${supervisor.pid})${where}. Nothing was changed.\n`,
  );
}

/** Stops everything that `up` started, even without its supervisor. Waits until all processes are gone. */
export async function down(dataDir: string): Promise<void> {
  const layout = layoutOf(dataDir);
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const supervisor = livingSupervisor(layout);
  if (supervisor !== undefined) {
    try {
      sendSignal(supervisor.pid, 'SIGTERM');
    } catch (error) {
      throw new UserError(`The system in ${layout.dataDir} belongs to another user: ${messageOf(error)}.`);
    }
    if (!(await waitUntilGone([supervisor], GIVE_UP_MS)) && isAlive(supervisor)) sendSignal(supervisor.pid, 'SIGKILL');
    await waitUntilGone([supervisor], GIVE_UP_MS);
  }
  const left = await new ProcessRegistry(layout).stopLeftBehind(say);
  if (supervisor === undefined && left.length === 0) say(`The system in ${layout.dataDir} is not running.`);
  else say('funcX is down.');
  const agents = listRunningAgents(layout);
  if (agents.length === 0) return;
  say(
    `These agents keep running and reconnect when the service is back: ${agents.map(({ name, pid }) => `${name} (process ${pid})`).join(', ')}.`,
  );
  say(`To stop them: funcx endpoint stop ${agents.map(({ name }) => name).join(' ')}`);
}
