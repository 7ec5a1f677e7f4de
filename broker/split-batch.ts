import { decodeBatch, isBatch } from '../contracts/batches';

import type { ReceivedMessage } from './consumer';

/**
 * Returns the messages of a batch, or the message itself. Each message is settled separately; the broker's message is settled
 * with the last one. If a message is rejected, the whole batch goes to the dead letters once all others are settled. If a message
 * is requeued, the whole batch is requeued immediately: the receiver recognizes messages that it already received.
 *
 * Throws a `SyntaxError` for a malformed batch.
 */
export function splitBatch(message: ReceivedMessage): ReceivedMessage[] {
  if (!isBatch(message.body)) return [message];
  const parts = decodeBatch(message.body);
  const batch = { size: parts.length, open: parts.length };
  let isRejected = false;
  let isRequeued = false;

  return parts.map(({ headers, body }) => {
    let isSettled = false;
    function settle(): void {
      if (isSettled || isRequeued) return;
      isSettled = true;
      if (--batch.open > 0) return;
      if (isRejected) message.nack(false);
      else message.ack();
    }
    return {
      body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
      routingKey: message.routingKey,
      headers,
      batch,
      ack: settle,
      nack: (requeue) => {
        if (isSettled || isRequeued) return;
        if (requeue) {
          isRequeued = true;
          message.nack(true);
        } else {
          isRejected = true;
          settle();
        }
      },
    };
  });
}
