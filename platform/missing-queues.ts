import { setTimeout as delay } from 'node:timers/promises';

import { BrokerRefusal, type Broker } from '../broker';
import { createGathering } from './gather';

/** True if a queue certainly does not exist. False if it exists, or if the broker cannot tell. */
export type IsQueueMissing = (queue: string) => Promise<boolean>;

/** The broker writes each check that finds no queue to its log, and a queue that expired may get many answers. */
const REMEMBER_MS = 1_000;
const MAX_REMEMBERED = 10_000;
/** Results wait for the answer. */
const DEADLINE_MS = 5_000;

/** The broker closes the channel of each check that finds no queue, so few checks run at the same time. */
export function createMissingQueues(broker: Pick<Broker, 'withChannel'>, deadlineMs = DEADLINE_MS): IsQueueMissing {
  /** Until when each queue counts as missing without another check. */
  const missingUntilMs = new Map<string, number>();

  async function isMissing(queue: string): Promise<boolean> {
    if (Date.now() < (missingUntilMs.get(queue) ?? 0)) return true;
    try {
      await broker.withChannel((channel) => channel.checkQueue(queue));
      return false;
    } catch (error) {
      if (!(error instanceof BrokerRefusal && error.isMissing)) return false;
      if (missingUntilMs.size >= MAX_REMEMBERED) missingUntilMs.clear();
      missingUntilMs.set(queue, Date.now() + REMEMBER_MS);
      return true;
    }
  }

  const check = createGathering<string, boolean>(async (queues) => {
    const missing = new Map<string, boolean>();
    for (const queue of new Set(queues)) missing.set(queue, await isMissing(queue));
    return queues.map((queue) => missing.get(queue) ?? false);
  });

  return async (queue) => {
    const deadline = new AbortController();
    try {
      return await Promise.race([check(queue), delay(deadlineMs, false, { signal: deadline.signal })]);
    } finally {
      deadline.abort();
    }
  };
}
