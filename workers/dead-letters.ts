import { z } from 'zod';

import type { ActivityDeps } from '../activities';
import type { Broker, ReceivedMessage } from '../broker';
import { DEAD_LETTER_REASON_HEADER, QUEUE } from '../contracts/names';
import { deadLetters } from '../platform/metrics';
import { insertDeadLetter, type NewDeadLetter } from '../platform/store/dead-letters';

/** Moves a malformed message to the dead-letter queue, with the reason. */
export async function putAside(deps: ActivityDeps, queue: string, message: ReceivedMessage, reason: string): Promise<void> {
  deadLetters.inc({ queue });
  deps.log.warn({ queue, reason, routingKey: message.routingKey }, 'a malformed message was moved to the dead letters');
  try {
    await deps.publisher.publish('', QUEUE.deadLetters, message.body, {
      headers: { [DEAD_LETTER_REASON_HEADER]: reason.slice(0, 1_000), 'funcx-queue': queue, 'funcx-key': message.routingKey },
    });
    message.ack();
  } catch (error) {
    deps.log.warn({ err: error, queue }, 'a malformed message could not be moved to the dead letters; it stays on its queue');
    message.nack(true);
  }
}

/** Small, because dead letters are rare and may be large. */
const PREFETCH = 20;
const RETRY_MS = 2_000;

/**
 * Moves dead letters to the store, where people list, read, delete and requeue them. Dead letters come from `putAside` and from
 * agents that rejected a task. In the second case, the broker's headers contain the queue and the reason.
 */
export async function startDeadLetterLoop(broker: Broker, deps: ActivityDeps): Promise<{ close(): Promise<void> }> {
  const consumer = await broker.consume({
    queue: QUEUE.deadLetters,
    prefetch: PREFETCH,
    onMessage: keep,
  });

  async function keep(message: ReceivedMessage): Promise<void> {
    try {
      await insertDeadLetter(deps.db, letterOf(message));
      message.ack();
    } catch (error) {
      deps.log.warn({ err: error }, 'a dead letter could not be stored; it is requeued');
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      message.nack(true);
    }
  }

  return {
    async close() {
      await consumer.pause();
      await consumer.close();
    },
  };
}

const deathSchema = z.array(
  z.object({ queue: z.string(), reason: z.string(), 'routing-keys': z.array(z.string()).optional() }).loose(),
);

function letterOf(message: ReceivedMessage): NewDeadLetter {
  const { [DEAD_LETTER_REASON_HEADER]: reason, 'funcx-queue': queue, 'funcx-key': key, ...headers } = message.headers;
  const [death] = deathSchema.safeParse(message.headers['x-death']).data ?? [];
  return {
    queue: text(queue) ?? death?.queue ?? 'unknown',
    routingKey: text(key) ?? death?.['routing-keys']?.[0] ?? message.routingKey,
    reason: text(reason) ?? (death ? `${death.reason} (reported by the broker)` : 'unknown'),
    body: message.body,
    headers,
  };
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
