import { IllegalOperationError, type ConsumeMessage } from 'amqplib';
import fc from 'fast-check';

import { Acknowledgements } from '../../broker/acknowledgements';

/** A channel that does with tags what a broker does: settles one, or all up to it; twice is an error. */
class FakeChannel {
  readonly settled = new Map<number, 'ack' | 'nack'>();
  frames = 0;
  isClosing = false;
  constructor(private readonly delivered: number) {}

  ack({ fields: { deliveryTag } }: ConsumeMessage, allUpTo = false): void {
    this.frames++;
    if (!allUpTo) return this.#settle(deliveryTag, 'ack');
    for (let tag = 1; tag <= Math.min(deliveryTag, this.delivered); tag++) if (!this.settled.has(tag)) this.#settle(tag, 'ack');
  }

  nack({ fields: { deliveryTag } }: ConsumeMessage): void {
    this.#settle(deliveryTag, 'nack');
  }

  #settle(tag: number, how: 'ack' | 'nack'): void {
    if (this.isClosing) throw new IllegalOperationError('Channel closing');
    if (this.settled.has(tag)) throw new Error(`tag ${tag} is settled twice: the broker closes the channel`);
    this.settled.set(tag, how);
  }
}

const message = (deliveryTag: number): ConsumeMessage => ({ fields: { deliveryTag } }) as ConsumeMessage;

function start(count: number): { channel: FakeChannel; acknowledgements: Acknowledgements; messages: ConsumeMessage[] } {
  const channel = new FakeChannel(count);
  const acknowledgements = new Acknowledgements(channel);
  const messages = Array.from({ length: count }, (_, index) => message(index + 1));
  for (const one of messages) acknowledgements.add(one);
  return { channel, acknowledgements, messages };
}

test('a batch in the order of its delivery is acknowledged by one frame', async () => {
  const { channel, acknowledgements, messages } = start(100);
  for (const one of messages) acknowledgements.ack(one);
  await new Promise(process.nextTick);
  expect(channel.frames).toBe(1);
  expect(channel.settled.size).toBe(100);
});

test('in any order and with any refused ones, each is settled once, as it was asked for, and no other', () => {
  const actions = fc.array(fc.record({ tag: fc.integer({ min: 1, max: 20 }), what: fc.constantFrom('ack', 'nack', 'flush') }));
  fc.assert(
    fc.property(actions, (asked) => {
      const { channel, acknowledgements, messages } = start(20);
      const expected = new Map<number, string>();
      for (const { tag, what } of asked) {
        const one = messages[tag - 1]!; // tags are 1 to 20
        if (what === 'flush') acknowledgements.flush();
        else {
          if (!expected.has(tag)) expected.set(tag, what);
          if (what === 'ack') acknowledgements.ack(one);
          else if (expected.get(tag) === 'nack') acknowledgements.nack(one, true);
        }
      }
      acknowledgements.flush();
      expect(new Map([...channel.settled].sort())).toEqual(new Map([...expected].sort()));
    }),
  );
});

test('a channel that is being closed takes neither acknowledgements nor requeues, and the next close is no error', async () => {
  const { channel, acknowledgements, messages } = start(3);
  channel.isClosing = true;
  acknowledgements.ack(messages[0]!); // there are three
  expect(() => acknowledgements.nack(messages[1]!, true)).not.toThrow();
  expect(() => acknowledgements.flush()).not.toThrow();
  await new Promise(process.nextTick);
  acknowledgements.drop();
  expect(channel.settled.size).toBe(0);
});

test('what was acknowledged on a channel that is gone is not sent', async () => {
  const { channel, acknowledgements, messages } = start(2);
  acknowledgements.ack(messages[0]!); // there are two
  acknowledgements.drop();
  await new Promise(process.nextTick);
  expect(channel.frames).toBe(0);
});
