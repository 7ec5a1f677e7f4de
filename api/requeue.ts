import { PublishError, type Publisher } from '../broker';
import { EXCHANGE, QUEUE } from '../contracts/names';
import type { DeadLetterRow } from '../platform/store/dead-letters';

/** Puts a dead letter back on its queue. False if the queue no longer exists. */
export type Requeue = (letter: DeadLetterRow & { body: Buffer }) => Promise<boolean>;

/** Messages from agents must pass through their exchange again, because the routing key names the sender. */
const EXCHANGE_OF: Readonly<Record<string, string>> = { [QUEUE.results]: EXCHANGE.results, [QUEUE.status]: EXCHANGE.status };

export function createRequeue(publisher: Publisher): Requeue {
  return async function requeue(letter) {
    const exchange = EXCHANGE_OF[letter.queue] ?? '';
    const key = exchange === '' ? letter.queue : (letter.routingKey ?? letter.queue);
    const { 'x-death': _death, ...headers } = letter.headers;
    try {
      await publisher.publish(exchange, key, letter.body, { headers, mandatory: true, messageId: `dead-letter/${letter.id}` });
      return true;
    } catch (error) {
      if (error instanceof PublishError && error.reason === 'returned') return false;
      throw error;
    }
  };
}
