import type { ActivityDeps } from '../activities';
import type { Delivery } from '../broker';
import { DEAD_LETTER_REASON_HEADER, QUEUE } from '../contracts/names';
import { deadLetters } from '../platform/metrics';

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
