import { z } from 'zod';

import type { ActivityDeps } from '../activities';
import type { Broker, Delivery } from '../broker';
import { DEAD_LETTER_REASON_HEADER, QUEUE } from '../contracts/names';
import { deadLetters } from '../platform/metrics';
import { insertDeadLetter, type NewDeadLetter } from '../platform/store/dead-letters';

/** Puts a message that can not be understood on the dead-letter queue, with the reason, and takes it off its own queue. */
export async function putAside(deps: ActivityDeps, queue: string, delivery: Delivery, reason: string): Promise<void> {
  deadLetters.inc({ queue });
  deps.log.warn({ queue, reason, routingKey: delivery.routingKey }, 'a message was put aside as a dead letter');
  try {
    await deps.publisher.publish('', QUEUE.deadLetters, delivery.body, {
      headers: { [DEAD_LETTER_REASON_HEADER]: reason.slice(0, 1_000), 'funcx-queue': queue, 'funcx-key': delivery.routingKey },
    });
    delivery.ack();
  } catch (error) {
    deps.log.warn({ err: error, queue }, 'a dead letter could not be put aside; it stays on its queue');
    delivery.nack(true);
  }
}

/** In hand at most; they are rare, and may be large. */
const PREFETCH = 20;
const RETRY_MS = 2_000;

/**
 * Moves dead letters to the store, where they can be listed, looked into, dropped and replayed: those that we put aside, and
 * those that agents refused (the broker notes which queue they were on, and that they were rejected).
 */
export async function startDeadLetterLoop(broker: Broker, deps: ActivityDeps): Promise<{ close(): Promise<void> }> {
  const inHand = new Set<Promise<void>>();
  const consumer = await broker.consume({
    queue: QUEUE.deadLetters,
    prefetch: PREFETCH,
    onDelivery: (delivery) => {
      const work = keep(delivery).finally(() => inHand.delete(work));
      inHand.add(work);
    },
  });

  async function keep(delivery: Delivery): Promise<void> {
    try {
      await insertDeadLetter(deps.db, letterOf(delivery));
      delivery.ack();
    } catch (error) {
      deps.log.warn({ err: error }, 'a dead letter could not be stored yet');
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      delivery.nack(true);
    }
  }

  return {
    async close() {
      await consumer.pause();
      await Promise.all(inHand);
      await consumer.close();
    },
  };
}

const deathSchema = z.array(
  z.object({ queue: z.string(), reason: z.string(), 'routing-keys': z.array(z.string()).optional() }).loose(),
);

function letterOf(delivery: Delivery): NewDeadLetter {
  const { [DEAD_LETTER_REASON_HEADER]: reason, 'funcx-queue': queue, 'funcx-key': key, ...headers } = delivery.headers;
  const [death] = deathSchema.safeParse(delivery.headers['x-death']).data ?? [];
  return {
    queue: text(queue) ?? death?.queue ?? 'unknown',
    routingKey: text(key) ?? death?.['routing-keys']?.[0] ?? delivery.routingKey,
    reason: text(reason) ?? (death ? `${death.reason} by whoever read the queue` : 'unknown'),
    body: delivery.body,
    headers,
  };
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
