import type { ChannelModel } from 'amqplib';

import { Publisher } from '../../broker';

/** What is written to a broker that does not read. */

async function connect(): Promise<{ publisher: Publisher; written: string[] }> {
  const written: string[] = [];
  const channel = {
    on: () => undefined,
    publish: (_exchange: string, _key: string, body: Buffer, _options: object, confirm: () => void) => {
      written.push(body.toString());
      setImmediate(confirm);
    },
  };
  const publisher = new Publisher();
  await publisher.attach({ createConfirmChannel: async () => channel } as unknown as ChannelModel);
  return { publisher, written };
}

const LATER = { waitsWhileBlocked: true, writeKey: 'task/1' };

test('a publish that may wait is written once when the broker takes messages again, however often it was asked for', async () => {
  const { publisher, written } = await connect();
  publisher.setBlocked(true);
  const both = [1, 2].map(() => publisher.publish('', 'queue', Buffer.from('task'), LATER));
  await expect(publisher.publish('', 'queue', Buffer.from('other'))).rejects.toMatchObject({ reason: 'blocked' });
  expect(written).toEqual([]);
  publisher.setBlocked(false);
  await Promise.all(both);
  expect(written).toEqual(['task']);
});

test('a publish that waits fails when the connection is lost meanwhile', async () => {
  const { publisher, written } = await connect();
  publisher.setBlocked(true);
  const waiting = publisher.publish('', 'queue', Buffer.from('task'), LATER);
  publisher.detach();
  publisher.setBlocked(false);
  await expect(waiting).rejects.toMatchObject({ reason: 'disconnected' });
  expect(written).toEqual([]);
});
