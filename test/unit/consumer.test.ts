import { EventEmitter } from 'node:events';

import type { Channel, ChannelModel } from 'amqplib';

import { Consumer } from '../../broker/consumer';
import { until } from '../helpers/until';

/** A consumer whose channel closes, or cannot be opened, while its connection lives. */

class FakeChannel extends EventEmitter {
  prefetch = async (): Promise<void> => undefined;
  consume = async (): Promise<{ consumerTag: string }> => ({ consumerTag: 'tag' });
  close = async (): Promise<void> => undefined;
}

function connection(): { model: ChannelModel; channels: FakeChannel[]; refuse: { next: number } } {
  const channels: FakeChannel[] = [];
  const refuse = { next: 0 };
  const model = {
    createChannel: async () => {
      if (refuse.next-- > 0) throw new Error('no channel is free');
      const channel = new FakeChannel();
      channels.push(channel);
      return channel;
    },
  };
  return { model: model as unknown as ChannelModel, channels, refuse };
}

const quiet = { info: () => undefined, warn: () => undefined };
const newConsumer = (): Consumer => new Consumer({ queue: 'queue', prefetch: 1, onMessage: () => undefined }, quiet);

test('a consumer tries again to open a channel until it consumes', async () => {
  const consumer = newConsumer();
  const { model, channels, refuse } = connection();
  await consumer.attach(model);
  refuse.next = 2;
  channels[0]!.emit('close');
  expect(consumer.isConsuming).toBe(false);
  await until('the consumer consumes again', () => consumer.isConsuming, { everyMs: 20 });
  expect(channels).toHaveLength(2);
  await consumer.close();
});

test('a consumer opens no channel on an earlier connection once it has a new one', async () => {
  jest.useFakeTimers();
  const consumer = newConsumer();
  const [earlier, later] = [connection(), connection()];
  await consumer.attach(earlier.model);
  earlier.refuse.next = Infinity;
  earlier.channels[0]!.emit('close');
  consumer.detach();
  await consumer.attach(later.model);
  earlier.refuse.next = 0;
  await jest.advanceTimersByTimeAsync(10_000); // longer than the pause before another try
  expect([earlier.channels.length, later.channels.length]).toEqual([1, 1]);
  expect(consumer.isConsuming).toBe(true);
  await consumer.close();
  jest.useRealTimers();
});

test('a channel that closes while it is set up leaves no second try behind', async () => {
  jest.useFakeTimers();
  const consumer = newConsumer();
  const [earlier, later] = [connection(), connection()];
  await consumer.attach(earlier.model);
  const createChannel = earlier.model.createChannel.bind(earlier.model);
  earlier.model.createChannel = async () => {
    const channel = (await createChannel()) as unknown as FakeChannel;
    channel.consume = async () => {
      channel.emit('close'); // as amqplib does before it rejects
      throw new Error('there is no such queue');
    };
    return channel as unknown as Channel;
  };
  earlier.channels[0]!.emit('close');
  await jest.advanceTimersByTimeAsync(600);
  expect(earlier.channels).toHaveLength(2);
  earlier.refuse.next = Infinity;
  consumer.detach();
  await consumer.attach(later.model);
  await jest.advanceTimersByTimeAsync(10_000);
  expect(later.channels).toHaveLength(1);
  expect(consumer.isConsuming).toBe(true);
  await consumer.close();
  jest.useRealTimers();
});
