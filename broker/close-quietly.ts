import type { Channel, ChannelModel } from 'amqplib';

/** If the connection is lost before the broker confirms the close, `close()` of amqplib never settles, but emits 'close'. */
export async function closeQuietly(part: Channel | ChannelModel): Promise<void> {
  const closed = new Promise<void>((resolve) => part.once('close', () => resolve()));
  await Promise.race([part.close().catch(() => undefined), closed]);
}
