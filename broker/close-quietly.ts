import type { Channel, ChannelModel } from 'amqplib';

/**
 * Closes a channel or a connection that may be lost already. `close()` of amqplib never settles if the connection is lost before
 * the broker confirms the close; only the event follows.
 */
export async function closeQuietly(part: Channel | ChannelModel): Promise<void> {
  const closed = new Promise<void>((resolve) => part.once('close', () => resolve()));
  await Promise.race([part.close().catch(() => undefined), closed]);
}
