import { BrokerRefusal, type Broker, type BrokerChannel } from '../../broker';
import { createMissingQueues } from '../../platform/missing-queues';

/** Which queues certainly do not exist; the texts are those of RabbitMQ 3.10.8. */

const REPLIES: Record<string, string> = {
  gone: `NOT_FOUND - no queue 'gone' in vhost '/'`,
  away: `NOT_FOUND - home node 'b@localhost' of durable queue 'away' in vhost '/' is down or inaccessible`,
};

function start(deadlineMs?: number) {
  const checked: string[] = [];
  let open = 0;
  let mostOpen = 0;
  const checkQueue = async (queue: string): Promise<object> => {
    checked.push(queue);
    await new Promise(setImmediate);
    if (queue === 'hung') return new Promise(() => undefined);
    if (queue === 'lost') throw new Error('Channel closed');
    const reply = REPLIES[queue.split('/', 1)[0] ?? ''];
    if (reply !== undefined) throw new BrokerRefusal(404, new Error(reply));
    return { messageCount: 0, consumerCount: 0 };
  };
  const broker = {
    withChannel: async (use: (channel: BrokerChannel) => Promise<unknown>) => {
      mostOpen = Math.max(mostOpen, ++open);
      return use({ checkQueue } as unknown as BrokerChannel).finally(() => open--);
    },
  } as unknown as Broker;
  return { isMissing: createMissingQueues(broker, deadlineMs), checked, mostOpen: () => mostOpen };
}

test('a queue is missing only if the broker says that there is none', async () => {
  const { isMissing } = start();
  expect(await isMissing('gone')).toBe(true);
  expect(await isMissing('present')).toBe(false);
  expect(await isMissing('away')).toBe(false);
  expect(await isMissing('lost')).toBe(false);
});

test('many answers for queues that are gone need few channels and few checks', async () => {
  const { isMissing, checked, mostOpen } = start();
  const queues = Array.from({ length: 500 }, (_, index) => `gone/${index % 10}`);
  expect(await Promise.all(queues.map(isMissing))).toEqual(queues.map(() => true));
  expect(checked.length).toBeLessThan(30);
  expect(mostOpen()).toBeLessThan(10);
});

test('a queue that was missing a moment ago is not checked again, and one that is there is', async () => {
  const { isMissing, checked } = start();
  for (const queue of ['gone', 'gone', 'present', 'present']) expect(await isMissing(queue)).toBe(queue === 'gone');
  expect(checked).toEqual(['gone', 'present', 'present']);
});

test('a queue that the broker does not tell about in time does not count as missing', async () => {
  const { isMissing } = start(20);
  expect(await isMissing('hung')).toBe(false);
});
