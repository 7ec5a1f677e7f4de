import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { readJson, writeJson } from '../machine/files';
import { groupMembers, identify, isAlive, sendSignal, waitUntilGone } from './process-identity';

import type { Layout } from '../machine/layout';
import type { ProcessIdentity } from './process-identity';

/** A process that this system started. It is recorded before anything else happens with it. */
export interface RecordedProcess extends ProcessIdentity {
  name: string;
  stopSignal: NodeJS.Signals;
}

const GRACE_MS = 20_000;
const KILL_MS = 5_000;

/** Stop order: a process stops before the processes that it uses. Names that are not listed (pip, initdb) stop first. */
const STOP_ORDER = ['endpoint', 'api', 'workers', 'rabbitmq', 'temporal', 'postgres', 'epmd'];

/** The live processes, so that `up` and `down` find what a killed supervisor left. Each leads its own process group. */
export class ProcessRegistry {
  readonly #file: string;
  #processes: RecordedProcess[] = [];

  constructor(layout: Layout) {
    this.#file = join(layout.runDir, 'processes.json');
  }

  add(name: string, pid: number, stopSignal: NodeJS.Signals): ProcessIdentity {
    const identity = identify(pid) ?? { pid, started: 'gone' };
    this.#processes.push({ name, stopSignal, ...identity });
    this.#save();
    return identity;
  }

  remove(identity: ProcessIdentity): void {
    this.#processes = this.#processes.filter((entry) => entry.pid !== identity.pid);
    this.#save();
  }

  /** Stops, in order, what an earlier supervisor left, and returns the names. Does not touch processes that are not ours. */
  async stopLeftBehind(say: (line: string) => void): Promise<string[]> {
    if (!existsSync(this.#file)) return [];
    const stored = (readJson(this.#file) ?? []) as RecordedProcess[];
    const rank = (entry: RecordedProcess): number => STOP_ORDER.indexOf(entry.name.replace(/-\d+$/, ''));
    const stopped: string[] = [];
    for (const entry of stored.sort((a, b) => rank(a) - rank(b))) {
      if (await stopRecorded(entry)) {
        stopped.push(entry.name);
        say(`stopped ${entry.name}, left behind by an earlier run (process ${entry.pid})`);
      }
    }
    this.#save();
    return stopped;
  }

  #save(): void {
    writeJson(this.#file, this.#processes);
  }
}

async function stopRecorded(entry: RecordedProcess): Promise<boolean> {
  const wasAlive = isAlive(entry);
  if (wasAlive) {
    sendSignal(entry.pid, entry.stopSignal);
    if (!(await waitUntilGone([entry], GRACE_MS))) sendSignal(entry.pid, 'SIGKILL');
  } else if (identify(entry.pid) !== undefined) {
    return false; // The process ID now belongs to another process, and its group ID may as well.
  }
  const left = groupMembers(entry.pid);
  for (const member of left) sendSignal(member.pid, 'SIGKILL');
  await waitUntilGone([entry, ...left], KILL_MS);
  return wasAlive || left.length > 0;
}
