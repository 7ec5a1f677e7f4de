import cluster from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';

import { HANDS_OVER, SERVES, SUCCESSOR_SERVES } from '../contracts/names';
import type { EngineState } from './health';

/**
 * Our supervisor starts replicas with `node:cluster`. A replica shares its listening sockets with the other replicas and with its
 * successor, so no connection is refused while one of them restarts.
 */

const READY_POLL_MS = 100;
/** How long to wait for the successor. It starts within seconds, unless the machine is busy. */
const SUCCESSOR_MS = 60_000;

export const isReplica = (): boolean => cluster.isWorker && process.connected;

let onSuccessor: () => void;
const successorServes = new Promise<void>((resolve) => (onSuccessor = resolve));
if (cluster.isWorker) {
  process.on('message', (message) => message === SUCCESSOR_SERVES && onSuccessor());
  // Ignore SIGHUP: a terminal that closes sends it to every process, and the supervisor stops them in order.
  process.on('SIGHUP', () => undefined);
}

/** Informs the supervisor when every engine answers. Call after listening. */
export async function announceServing(readiness: () => Promise<Record<string, EngineState>>): Promise<void> {
  if (!isReplica() || !cluster.worker) return;
  // Without this flag, Node.js ends the process when the supervisor dies.
  cluster.worker.exitedAfterDisconnect = true;
  while (!Object.values(await readiness()).every(({ ok }) => ok)) await delay(READY_POLL_MS);
  process.send?.(SERVES);
}

/** Resolves when the successor serves, when it does not start in time, or when the supervisor is gone. Serve until then. */
export async function untilSuccessorServes(): Promise<void> {
  if (!isReplica()) return;
  process.send?.(HANDS_OVER);
  const isAlone = new Promise<void>((resolve) => {
    setTimeout(resolve, SUCCESSOR_MS).unref();
    process.once('disconnect', resolve);
  });
  await Promise.race([successorServes, isAlone]);
}
