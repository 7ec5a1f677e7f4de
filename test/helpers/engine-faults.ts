import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { layoutOf } from '../../local/machine/layout';
import { rabbitmqctl } from './broker-node';
import { dataDir, management, pidOf, state } from './system';
import { until } from './until';

/** Parts of the running system that are silent, blocked or away for a while, and what the broker counts meanwhile. */

export type Part = Parameters<typeof pidOf>[0];

export const BACK_MS = 120_000;

/** Stops a part with all its processes: the backends of PostgreSQL and the agent's workers with their parent. */
export async function freezeFor(part: Part, ms: number): Promise<void> {
  const thaw = freeze(part);
  try {
    await delay(ms);
  } finally {
    thaw();
  }
}

/** The same until the returned function is called. */
export function freeze(part: Part): () => void {
  const stopped = treeOf(pidOf(part));
  stopped.forEach((pid) => signal(pid, 'SIGSTOP'));
  return () => [...stopped].reverse().forEach((pid) => signal(pid, 'SIGCONT'));
}

/** Kills a part again and again until the time is over; then waits until the supervisor's next one serves. */
export async function keepAway(part: Part, ms: number): Promise<void> {
  const untilMs = Date.now() + ms;
  while (Date.now() < untilMs) {
    const pid = state().services.find(({ name }) => name === part)?.pid;
    if (pid) signal(pid, 'SIGKILL');
    await delay(50);
  }
  await until(`${part} serves again`, () => state().services.find(({ name }) => name === part)?.state === 'ready', {
    deadlineMs: BACK_MS,
  });
}

/** Every broker uses more memory than this, and no disk has this much free space. */
const ALARMS = {
  memory: { raise: ['set_vm_memory_high_watermark', 'absolute', '1MB'], clear: ['set_vm_memory_high_watermark', '0.4'] },
  disk: { raise: ['set_disk_free_limit', '1000000GB'], clear: ['set_disk_free_limit', '50MB'] },
} as const;

/** The broker blocks everybody who publishes, until the returned function is called. */
export function raiseAlarm(kind: keyof typeof ALARMS): () => void {
  const node = { layout: layoutOf(dataDir()), state: state() };
  rabbitmqctl(node, ...ALARMS[kind].raise);
  return () => void rabbitmqctl(node, ...ALARMS[kind].clear);
}

export async function alarmFor(kind: keyof typeof ALARMS, ms: number): Promise<void> {
  // A node that restarts takes no commands yet.
  const clear = await until(`the ${kind} alarm is raised`, () => raiseAlarm(kind), { deadlineMs: BACK_MS, everyMs: 1_000 });
  try {
    await delay(ms);
  } finally {
    // A restart ends an alarm as well.
    await until(`the ${kind} alarm is over`, () => (clear(), true), { deadlineMs: BACK_MS, everyMs: 1_000 });
  }
}

export interface QueueCounts {
  /** Messages that were ever put into the queue. */
  published: number;
  /** Deliveries of messages that had been delivered before. */
  redelivered: number;
  /** Messages in the queue now. */
  messages: number;
}

/** What the broker counted for a queue since the broker started; its statistics are some seconds old. */
export async function countsOf(queue: string): Promise<QueueCounts> {
  const { message_stats: stats = {}, messages = 0 } = (await management(`queues/funcx/${encodeURIComponent(queue)}`)) as {
    message_stats?: { publish?: number; redeliver?: number };
    messages?: number;
  };
  return { published: stats.publish ?? 0, redelivered: stats.redeliver ?? 0, messages };
}

/** The largest number of unacknowledged messages that a consumer of the queue asks for; infinite while there is none. */
export async function prefetchOf(queue: string): Promise<number> {
  const { consumer_details: consumers = [] } = (await management(`queues/funcx/${encodeURIComponent(queue)}`)) as {
    consumer_details?: { prefetch_count: number }[];
  };
  return consumers.length > 0 ? Math.max(...consumers.map((consumer) => consumer.prefetch_count)) : Infinity;
}

export function treeOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    return [pid, ...children.map(Number).flatMap(treeOf)];
  } catch {
    return []; // it ended meanwhile
  }
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile.
  }
}
