import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';

import { z } from 'zod';

import { isUuid } from '../contracts/ids';

/** The agent's directory: the ID of the endpoint, the status of the agent, and a lock that admits one agent. */

export type AgentPhase = 'connecting' | 'connected' | 'draining';

export interface AgentStatus {
  state: AgentPhase;
  endpoint_id: string | undefined;
  workers: number;
  pid: number;
  incarnation: string;
  /** Why the agent takes no tasks. Absent if it takes tasks. */
  problem?: string;
  /** Present with `problem`. True until the first worker is ready, or cannot be started. */
  is_starting?: boolean;
  updated_ms: number;
}

const LOCK_FILE = 'agent.lock';
/** An agent on another machine (for example, with a shared home) counts as alive while its status is younger than this. */
const FOREIGN_STATUS_MS = 60_000;
const MAX_LOG_BYTES = 10 * 1024 * 1024;

const ownerSchema = z.object({ pid: z.number(), hostname: z.string(), started: z.string() });
const identitySchema = z.object({ endpoint_id: z.string().refine(isUuid) });

export class DirectoryInUseError extends Error {
  constructor(dir: string, pid: number, host: string) {
    super(`Another agent (pid ${pid} on ${host}) uses ${dir}. Stop it first, or give this agent another FUNCX_ENDPOINT_DIR.`);
    this.name = 'DirectoryInUseError';
  }
}

export class StateDir {
  private constructor(readonly dir: string) {}

  /** Also creates `tasks` for function code, and takes the lock. Throws {@link DirectoryInUseError} if it is taken. */
  static open(dir: string, workerUser?: { uid: number; gid: number }): StateDir {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    const tasks = path.join(dir, 'tasks');
    fs.mkdirSync(tasks, { recursive: true });
    if (workerUser !== undefined) {
      fs.chmodSync(dir, 0o711); // only to pass through; the files in it have stricter modes
      fs.chownSync(tasks, workerUser.uid, workerUser.gid);
    }
    takeLock(dir);
    return new StateDir(dir);
  }

  /** The ID of the registered endpoint; undefined before the first registration. Throws if `endpoint.json` is damaged. */
  get endpointId(): string | undefined {
    const text = readIfThere(path.join(this.dir, 'endpoint.json'));
    if (text === undefined) return undefined;
    const parsed = identitySchema.safeParse(parseOrUndefined(text));
    if (!parsed.success) throw new Error(`${path.join(this.dir, 'endpoint.json')} is damaged: it has no endpoint_id`);
    return parsed.data.endpoint_id;
  }

  rememberEndpoint(endpointId: string): void {
    if (this.endpointId !== endpointId) this.#replace('endpoint.json', { endpoint_id: endpointId });
  }

  writeStatus(status: AgentStatus): void {
    this.#replace('status.json', status);
  }

  /** Opens the log of user code for appending, as {@link limitWorkerLog} requires. */
  openWorkerLog(): { fd: number; file: string } {
    const file = path.join(this.dir, 'workers.log');
    const log = { fd: fs.openSync(file, 'a+', 0o600), file };
    this.limitWorkerLog(log);
    return log;
  }

  /** Moves the end of a large log to `workers.log.1`, in place, as workers hold the file open. May lose lines in between. */
  limitWorkerLog({ fd, file }: { fd: number; file: string }): void {
    const { size } = fs.fstatSync(fd);
    if (size <= MAX_LOG_BYTES) return;
    const end = Buffer.allocUnsafe(MAX_LOG_BYTES);
    const read = fs.readSync(fd, end, 0, end.length, size - end.length);
    fs.writeFileSync(`${file}.1`, end.subarray(0, read), { mode: 0o600 });
    fs.ftruncateSync(fd);
  }

  close(): void {
    fs.rmSync(path.join(this.dir, 'status.json'), { force: true });
    fs.rmSync(path.join(this.dir, LOCK_FILE), { force: true });
  }

  /** Replaces a file atomically: readers see the old content or the new content. */
  #replace(name: string, value: object): void {
    const file = path.join(this.dir, name);
    const draft = `${file}.${process.pid}.new`;
    fs.writeFileSync(draft, `${JSON.stringify(value)}\n`, { mode: 0o600 });
    fs.renameSync(draft, file);
  }
}

/** Returns the process ID of the agent that has this directory, if it runs on this machine. */
export function runningAgent(dir: string): number | undefined {
  const parsed = ownerSchema.safeParse(parseOrUndefined(readIfThere(path.join(dir, LOCK_FILE)) ?? ''));
  return parsed.success && parsed.data.hostname === hostname() && isAlive(parsed.data, dir) ? parsed.data.pid : undefined;
}

export function readAgentStatus(dir: string): AgentStatus | undefined {
  return parseOrUndefined(readIfThere(path.join(dir, 'status.json')) ?? '') as AgentStatus | undefined;
}

function takeLock(dir: string): void {
  const file = path.join(dir, LOCK_FILE);
  // Write the lock to another file, then link it, so that nobody reads an incomplete lock.
  const draft = `${file}.${randomUUID()}`;
  fs.writeFileSync(draft, JSON.stringify({ pid: process.pid, hostname: hostname(), started: processStart(process.pid) }));
  try {
    for (;;) {
      try {
        fs.linkSync(draft, file);
        return;
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
      }
      breakStaleLock(dir, file);
    }
  } finally {
    fs.rmSync(draft, { force: true });
  }
}

/** Removes the lock of an agent that has ended. Throws {@link DirectoryInUseError} if the agent is alive. */
function breakStaleLock(dir: string, file: string): void {
  const text = readIfThere(file);
  if (text === undefined) return; // released just now
  const parsed = ownerSchema.safeParse(parseOrUndefined(text));
  if (parsed.success) {
    const owner = parsed.data;
    if (isAlive(owner, dir)) throw new DirectoryInUseError(dir, owner.pid, owner.hostname);
  }
  // Two agents may find the lock stale. The second must not remove the new lock of the first: it moves the file, then checks it.
  const moved = `${file}.stale-${randomUUID()}`;
  try {
    fs.renameSync(file, moved);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return;
    throw error;
  }
  if (readIfThere(moved) !== text) {
    try {
      fs.linkSync(moved, file);
    } catch {
      // a third agent took the lock meanwhile; the next round finds it
    }
  }
  fs.rmSync(moved, { force: true });
}

function isAlive(owner: z.infer<typeof ownerSchema>, dir: string): boolean {
  if (owner.hostname !== hostname()) {
    const status = fs.statSync(path.join(dir, 'status.json'), { throwIfNoEntry: false });
    return status !== undefined && Date.now() - status.mtimeMs < FOREIGN_STATUS_MS;
  }
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if (!isCode(error, 'EPERM')) return false;
  }
  return processStart(owner.pid) === owner.started; // otherwise the pid now belongs to another process
}

/** Returns when a process started, in ticks of the kernel; empty if there is no /proc. */
function processStart(pid: number): string {
  const stat = readIfThere(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function readIfThere(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ESRCH')) return undefined;
    throw error;
  }
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}
