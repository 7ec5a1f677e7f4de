import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { layoutOf } from '../../local/machine/layout';
import { rabbitmqctl } from '../helpers/broker-node';
import { dataDir, isAlive, pidOf, state } from '../helpers/system';
import { until } from '../helpers/until';
import type { Part, Step } from './plan';
import type { SmallDisks } from './small-disks';

/** Does one step of a plan to the running system and waits until the part serves again. */

const BACK_MS = 120_000;
/** No machine has this much memory or so little disk: the alarm is raised. */
const MEMORY_ALARM = ['set_vm_memory_high_watermark', 'absolute', '1MB'];
const NO_MEMORY_ALARM = ['set_vm_memory_high_watermark', '0.4'];
const DISK_ALARM = ['set_disk_free_limit', '1000TB'];
const NO_DISK_ALARM = ['set_disk_free_limit', '50MB'];

export async function inflict({ part, fault, holdMs }: Step, disks: SmallDisks | undefined): Promise<void> {
  switch (fault) {
    case 'kill':
      return endAndAwaitNext(part, 'SIGKILL');
    case 'restart':
      // PostgreSQL waits for its clients at SIGTERM and ends them at SIGINT.
      return endAndAwaitNext(part, part === 'postgres' ? 'SIGINT' : 'SIGTERM');
    case 'stop':
      return stopFor(part, holdMs);
    case 'memory alarm':
      return alarmFor(holdMs, MEMORY_ALARM, NO_MEMORY_ALARM);
    case 'disk alarm':
      return alarmFor(holdMs, DISK_ALARM, NO_DISK_ALARM);
    case 'full disk':
      return fillFor(part, holdMs, disks);
  }
}

/** Until every part serves and its process is the one that was seen to serve. */
export async function untilAllServe(): Promise<void> {
  await until(
    'every part serves',
    () => state().services.every((service) => service.state === 'ready' && service.pid !== null && isAlive(service.pid)),
    { deadlineMs: BACK_MS },
  );
}

async function endAndAwaitNext(part: Part, signal: NodeJS.Signals): Promise<void> {
  const before = pidOf(part);
  process.kill(before, signal);
  await until(
    `${part} serves again`,
    () =>
      state().services.some(({ name, pid, state: now }) => name === part && pid !== null && pid !== before && now === 'ready'),
    { deadlineMs: BACK_MS },
  );
}

/** The whole tree of processes: the backends of PostgreSQL and the agent's workers are stopped with their parent. */
async function stopFor(part: Part, holdMs: number): Promise<void> {
  const stopped = treeOf(pidOf(part));
  stopped.forEach((pid) => send(pid, 'SIGSTOP'));
  try {
    await delay(holdMs);
  } finally {
    stopped.reverse().forEach((pid) => send(pid, 'SIGCONT'));
  }
}

async function alarmFor(holdMs: number, set: readonly string[], clear: readonly string[]): Promise<void> {
  const node = { layout: layoutOf(dataDir()), state: state() };
  rabbitmqctl(node, ...set);
  try {
    await delay(holdMs);
  } finally {
    rabbitmqctl(node, ...clear);
  }
}

async function fillFor(part: Part, holdMs: number, disks: SmallDisks | undefined): Promise<void> {
  if (disks === undefined) throw new Error('there are no disks to fill; the plan must not ask for it');
  disks.fill(part);
  try {
    await delay(holdMs);
  } finally {
    disks.empty(part);
  }
}

function treeOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    return [pid, ...children.map(Number).flatMap(treeOf)];
  } catch {
    return []; // it ended meanwhile
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended meanwhile.
  }
}
