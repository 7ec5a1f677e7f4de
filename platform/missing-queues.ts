import { BrokerRefusal, type Broker } from '../broker';
import { createGathering } from './gather';

/** True if a queue certainly does not exist. False if it exists, or if the broker cannot tell. */
export type IsQueueMissing = (queue: string) => Promise<boolean>;

/** The broker closes the channel of each check that finds no queue, so few checks run at the same time. */
export function createMissingQueues(broker: Pick<Broker, 'withChannel'>): IsQueueMissing {
  async function isMissing(queue: string): Promise<boolean> {
    try {
      await broker.withChannel((channel) => channel.checkQueue(queue));
      return false;
    } catch (error) {
      return error instanceof BrokerRefusal && error.isMissing;
    }
  }

  return createGathering(async (queues) => {
    const missing = new Map<string, boolean>();
    for (const queue of new Set(queues)) missing.set(queue, await isMissing(queue));
    return queues.map((queue) => missing.get(queue) ?? false);
  });
}
