import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

/** Identifies a process for later. The process ID alone is not enough, because the system reuses IDs. */
export interface ProcessIdentity {
  pid: number;
  /** Start time of the process. Opaque: only compare it. */
  started: string;
}

const POLL_MS = 50;
const isLinux = process.platform === 'linux';

interface StatLine {
  state: string;
  group: number;
  started: string;
}

/** Fields of proc_pid_stat(5). The second field may contain spaces and parentheses. */
function readStat(pid: number): StatLine | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', group: Number(fields[2]), started: `${bootId()}/${fields[19] ?? ''}` };
  } catch {
    return undefined;
  }
}

function askPs(pid: number): StatLine | undefined {
  const { stdout, status } = spawnSync('ps', ['-o', 'state=,pgid=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const match = /^\s*(\S+)\s+(\d+)\s+(.*\S)\s*$/.exec(stdout ?? '');
  if (status !== 0 || match === null) return undefined;
  return { state: match[1] ?? '', group: Number(match[2]), started: match[3] ?? '' };
}

let knownBootId: string | undefined;
function bootId(): string {
  knownBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return knownBootId;
}

const look = (pid: number): StatLine | undefined => (isLinux ? readStat(pid) : askPs(pid));

/** Returns the identity of a live process, or undefined if it does not exist or is a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = look(pid);
  return stat === undefined || stat.state.startsWith('Z') ? undefined : { pid, started: stat.started };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.started === identity.started;
}

/** Returns the command line of a process, or '' if the process does not exist. */
export function commandLineOf(pid: number): string {
  if (!isLinux) return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout ?? '';
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

export function groupMembers(group: number): ProcessIdentity[] {
  if (!isLinux) {
    const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,pgid='], { encoding: 'utf8' });
    const pids = (stdout ?? '').split('\n').map((line) => line.trim().split(/\s+/).map(Number));
    return pids.flatMap(([pid, pgid]) => (pgid === group && pid !== undefined ? (identify(pid) ?? []) : []));
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const stat = readStat(Number(name));
      if (stat === undefined || stat.group !== group || stat.state.startsWith('Z')) return [];
      return [{ pid: Number(name), started: stat.started }];
    });
}

/** Sends a signal to a process, or with a negative ID to a process group. Ignores a process that does not exist. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until none of these processes is alive. Returns false on timeout. */
export async function waitUntilGone(identities: ProcessIdentity[], timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (identities.some(isAlive)) {
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}
