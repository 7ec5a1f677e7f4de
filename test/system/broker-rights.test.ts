import { connect, type Channel, type ChannelModel } from 'amqplib';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { commandQueueName, EXCHANGE, groupQueueName, QUEUE, resultKey, statusKey, tasksQueueName } from '../../contracts/names';
import { Http, state, type Credentials } from '../helpers/system';
import { until } from '../helpers/until';

/** The broker itself refuses what is not one's own: with the credentials of endpoint A and user A, everything of B. */

const admin = new Http();
interface Side {
  http: Http;
  userId: string;
  endpointId: string;
  agentUrl: string;
  resultsUrl: string;
  groupQueue: string;
}
let a: Side;
let b: Side;

async function makeSide(name: string): Promise<Side> {
  const made = (await admin.ok('POST', '/v1/identities', { name: `${name}-${randomUUID()}` })) as Credentials;
  const http = new Http(made);
  const agent = await http.ok('POST', '/v1/endpoints', { name, incarnation: randomUUID(), workers: 1 });
  const fn = await http.register('f', 'def f():\n    pass');
  const { groupId } = await http.submit(agent.endpoint_id as string, fn, [[]], { create_queue: true });
  const results = await http.ok('GET', '/v2/get_amqp_result_connection_url');
  return {
    http,
    userId: made.client_id,
    endpointId: agent.endpoint_id as string,
    agentUrl: agent.broker.url as string,
    resultsUrl: results.connection_url as string,
    groupQueue: groupQueueName(made.client_id, groupId),
  };
}

const open = (url: string): Promise<ChannelModel> => {
  const ca = state().ca_file;
  return connect(url, ca === null ? {} : { ca: [readFileSync(ca)] });
};

/** The code by which the broker refuses it, or 'allowed'. */
async function attempt(url: string, act: (channel: Channel) => Promise<unknown>): Promise<string> {
  const model = await open(url);
  model.on('error', () => undefined);
  try {
    const channel = await model.createConfirmChannel();
    const refused = new Promise<string>((resolve) => channel.on('error', (error: Error) => resolve(error.message)));
    const done = act(channel)
      .then(async () => {
        await channel.waitForConfirms();
        return 'allowed';
      })
      .catch((error: unknown) => String(error));
    const outcome = await Promise.race([refused, done]);
    return /403/.test(outcome) ? '403' : outcome;
  } finally {
    await model.close().catch(() => undefined); // the broker may have closed it
  }
}

beforeAll(async () => {
  a = await makeSide('a');
  b = await makeSide('b');
});

const publishTo =
  (exchange: () => string, key: () => string) =>
  async (channel: Channel): Promise<void> =>
    void channel.publish(exchange(), key(), Buffer.from('x'));

describe.each(['endpoint', 'user'] as const)('with the credentials of %s A', (who) => {
  const url = (): string => (who === 'endpoint' ? a.agentUrl : a.resultsUrl);
  const own = (): string => (who === 'endpoint' ? tasksQueueName(a.endpointId) : a.groupQueue);

  test(`${who}: its own queue can be read`, async () => {
    expect(await attempt(url(), (channel) => channel.consume(own(), () => undefined))).toBe('allowed');
  });

  test.each([
    ['tasks', () => tasksQueueName(b.endpointId)],
    ['commands', () => commandQueueName(b.endpointId)],
    ['results of the group', () => b.groupQueue],
    ['the service results', () => QUEUE.results],
    ['the service status', () => QUEUE.status],
    ['dead letters', () => QUEUE.deadLetters],
  ])(`${who}: reading the queue of B's or the service's %s is refused`, async (_what, queue) => {
    expect(await attempt(url(), (channel) => channel.consume(queue(), () => undefined))).toBe('403');
    expect(await attempt(url(), (channel) => channel.get(queue()))).toBe('403');
    expect(await attempt(url(), (channel) => channel.purgeQueue(queue()))).toBe('403');
    expect(await attempt(url(), (channel) => channel.deleteQueue(queue()))).toBe('403');
  });

  test.each([
    ['tasks', () => '', () => tasksQueueName(b.endpointId)],
    ['commands', () => '', () => commandQueueName(b.endpointId)],
    ['its group queue', () => '', () => b.groupQueue],
    ['results in its name', () => EXCHANGE.results, () => resultKey(b.endpointId)],
    ['heartbeats in its name', () => EXCHANGE.status, () => statusKey(b.endpointId)],
  ])(`${who}: writing to B by %s is refused`, async (_what, exchange, key) => {
    expect(await attempt(url(), publishTo(exchange, key))).toBe('403');
  });

  test(`${who}: declaring and binding anything is refused`, async () => {
    expect(await attempt(url(), (channel) => channel.assertQueue(`stolen-${who}`))).toBe('403');
    expect(await attempt(url(), (channel) => channel.assertExchange(`stolen-${who}`, 'topic'))).toBe('403');
    expect(await attempt(url(), (channel) => channel.bindQueue(own(), EXCHANGE.results, '#'))).toBe('403');
    expect(await attempt(url(), (channel) => channel.bindQueue(b.groupQueue, EXCHANGE.results, '#'))).toBe('403');
  });
});

test('after a new registration the old credentials are refused, and their connection is closed', async () => {
  const model = await open(a.agentUrl);
  model.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => model.on('close', () => resolve()));
  const again = await a.http.ok('PUT', `/v1/endpoints/${a.endpointId}`, {
    name: 'a',
    incarnation: randomUUID(),
    workers: 1,
    replace: true,
  });
  await until(
    'the old credentials are refused',
    async () => {
      const late = await open(a.agentUrl).catch(() => undefined);
      await late?.close();
      return late === undefined;
    },
    { deadlineMs: 10_000 },
  );
  await closed;
  const fresh = await open(again.broker.url as string);
  await fresh.close();
});
