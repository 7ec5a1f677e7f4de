import type { Broker } from '../broker';
import { RetryableError } from '../contracts/errors';
import { groupBatchQueueName, groupQueueName } from '../contracts/names';
import type { ResultQueue } from '../platform/store/result-queue';

/** The result queues of task groups. A queue exists before the response to its submitter, and expires when nobody uses it. */
export interface GroupQueues {
  ensure(ownerId: string, groupId: string, queue: Exclude<ResultQueue, 'none'>): Promise<void>;
}

/** A queue is not declared again within this time: its expiry is much longer. */
const REMEMBER_MS = 600_000;
const MAX_REMEMBERED = 20_000;

export async function createGroupQueues(broker: Broker, expiryS: number): Promise<GroupQueues> {
  const known = new Map<string, number>();
  const channel = await broker.keepChannel();
  // After a reconnect, the broker may have lost its queues.
  broker.onSetup(async () => known.clear());

  return {
    async ensure(ownerId, groupId, queue) {
      const name = queue === 'single' ? groupQueueName(ownerId, groupId) : groupBatchQueueName(ownerId, groupId);
      const now = Date.now();
      if ((known.get(name) ?? 0) > now - REMEMBER_MS) return;
      try {
        await channel.use((open) => open.declareQueue(name, { expiresMs: expiryS * 1_000 }));
      } catch (error) {
        throw new RetryableError('The message broker does not answer; repeat the submission in a moment.', { cause: error });
      }
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(name, now);
    },
  };
}
