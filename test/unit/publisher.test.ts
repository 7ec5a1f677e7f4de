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

const LATER = { waitsWhileBlocked: true, writeKeys: ['task/1'] };

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

test('a batch whose parts are all in unconfirmed writes is not written again, and one with a new part is', async () => {
  const written: string[] = [];
  const confirms: (() => void)[] = [];
  const channel = {
    on: () => undefined,
    publish: (_exchange: string, _key: string, body: Buffer, _options: object, confirm: () => void) => {
      written.push(body.toString());
      confirms.push(confirm);
    },
  };
  const publisher = new Publisher();
  await publisher.attach({ createConfirmChannel: async () => channel } as unknown as ChannelModel);
  const publish = (...keys: string[]): Promise<void> =>
    publisher.publish('', 'queue', Buffer.from(keys.join(' and ')), { writeKeys: keys });

  const first = [publish('1', '2'), publish('3')];
  let isSettled = false;
  const repeated = publish('2', '3').then(() => (isSettled = true));
  const more = publish('3', '4');
  expect(written).toEqual(['1 and 2', '3', '3 and 4']);
  expect(publisher.isUnconfirmed('2')).toBe(true);

  confirms[0]!();
  await first[0];
  expect(publisher.isUnconfirmed('2')).toBe(false);
  expect(isSettled).toBe(false); // 3 is not confirmed
  confirms[1]!();
  confirms[2]!();
  await Promise.all([...first, repeated, more]);
});

test('a returned message fails its own publish, not the one of the same answer to another queue', async () => {
  const confirms: (() => void)[] = [];
  let giveBack: (message: unknown) => void = () => undefined;
  const channel = {
    on: (event: string, listener: (message: unknown) => void) => {
      if (event === 'return') giveBack = listener;
    },
    publish: (_exchange: string, _key: string, _body: Buffer, _options: object, confirm: () => void) => confirms.push(confirm),
  };
  const publisher = new Publisher();
  await publisher.attach({ createConfirmChannel: async () => channel } as unknown as ChannelModel);
  const publish = (queue: string): Promise<void> =>
    publisher.publish('', queue, Buffer.from('answer'), { messageId: 'task', mandatory: true });
  const [present, missing] = [publish('present'), publish('missing')];
  const refused = expect(missing).rejects.toMatchObject({ reason: 'returned' });
  let isSettled = false;
  void present.then(() => (isSettled = true));
  giveBack({ properties: { messageId: 'task' }, fields: { routingKey: 'missing' } });
  await refused;
  expect(isSettled).toBe(false);
  confirms[0]!();
  await present;
});

test('a refused message is no confirm: the time of the last confirm stays', async () => {
  const confirms: ((error?: Error) => void)[] = [];
  const channel = {
    on: () => undefined,
    publish: (_exchange: string, _key: string, _body: Buffer, _options: object, confirm: () => void) => confirms.push(confirm),
  };
  const publisher = new Publisher();
  await publisher.attach({ createConfirmChannel: async () => channel } as unknown as ChannelModel);
  const [refused, accepted] = ['refusing', 'accepting'].map((queue) => publisher.publish('', queue, Buffer.from('task')));
  confirms[0]!(new Error('nack'));
  await expect(refused).rejects.toMatchObject({ reason: 'refused' });
  expect(publisher.confirmedAtMs).toBe(0);
  const beforeMs = Date.now();
  confirms[1]!();
  await accepted;
  expect(publisher.confirmedAtMs).toBeGreaterThanOrEqual(beforeMs);
});
