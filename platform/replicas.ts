import cluster from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';

import { HANDS_OVER, SERVES, SUCCESSOR_SERVES } from '../contracts/names';
import type { EngineState } from './health';

/**
 * A process that a supervisor of ours starts with `node:cluster`: it shares its listening sockets with its replicas and with
 * its successor, so no connection is refused while one of them restarts.
 */

const READY_POLL_MS = 100;
/** The successor starts within seconds, unless the machine is busy. */
const SUCCESSOR_MS = 60_000;

/** True when a supervisor started this process beside its replicas. */
export const isReplica = (): boolean => cluster.isWorker && process.connected;

let onSuccessor: () => void;
const successorServes = new Promise<void>((resolve) => (onSuccessor = resolve));
if (cluster.isWorker) {
  process.on('message', (message) => message === SUCCESSOR_SERVES && onSuccessor());
  // A terminal that closes sends it to every process; the supervisor stops them in order.
  process.on('SIGHUP', () => undefined);
}

/** Tells the supervisor once every engine answers. Call after listening. */
export async function announceServing(readiness: () => Promise<Record<string, EngineState>>): Promise<void> {
  if (!isReplica() || !cluster.worker) return;
  // Otherwise Node ends the process when the supervisor dies.
  cluster.worker.exitedAfterDisconnect = true;
  while (!Object.values(await readiness()).every(({ ok }) => ok)) await delay(READY_POLL_MS);
  process.send?.(SERVES);
}

/** Resolves when a successor serves, when none is coming, or when the supervisor is gone. Until then, go on serving. */
export async function untilSuccessorServes(): Promise<void> {
  if (!isReplica()) return;
  process.send?.(HANDS_OVER);
  const isAlone = new Promise<void>((resolve) => {
    setTimeout(resolve, SUCCESSOR_MS).unref();
    process.once('disconnect', resolve);
  });
  await Promise.race([successorServes, isAlone]);
}
