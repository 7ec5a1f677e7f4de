import type { Channel, ChannelModel } from 'amqplib';

import type { BrokerAdmin } from './broker-admin';
import { commandQueueName, EXCHANGE, QUEUE, tasksQueueName } from '../contracts/names';

/** Exchanges and queues on the broker. Declared only here: the broker refuses a declaration with other arguments (406). */

const TO_DEAD_LETTERS = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': QUEUE.deadLetters };
const TASK_QUEUE = { durable: true, arguments: { 'x-queue-type': 'quorum', ...TO_DEAD_LETTERS } };
/** An older command is stale: the agent that it was sent to is gone. */
const COMMAND_TTL_MS = 150_000;
/** An older status report says nothing about the present. */
const STATUS_TTL_MS = 60_000;

async function onChannel<T>(model: ChannelModel, use: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await model.createChannel();
  channel.on('error', () => undefined); // the call that failed rejects as well
  try {
    return await use(channel);
  } finally {
    await channel.close().catch(() => undefined); // closed by the broker together with the error
  }
}

/** Exchanges and queues of the service itself. */
export async function declareService(model: ChannelModel): Promise<void> {
  await onChannel(model, async (channel) => {
    await channel.assertQueue(QUEUE.deadLetters, { durable: true });
    await channel.assertExchange(EXCHANGE.results, 'topic', { durable: true });
    await channel.assertExchange(EXCHANGE.status, 'topic', { durable: true });
    await channel.assertQueue(QUEUE.results, { durable: true, arguments: { 'x-queue-type': 'quorum', ...TO_DEAD_LETTERS } });
    await channel.bindQueue(QUEUE.results, EXCHANGE.results, '*.results');
    await channel.assertQueue(QUEUE.status, { durable: true, messageTtl: STATUS_TTL_MS });
    await channel.bindQueue(QUEUE.status, EXCHANGE.status, '*.status');
  });
}

/**
 * RabbitMQ 4 dead-letters a message after 20 deliveries. Tasks of an agent that reconnects often, and results that arrive
 * while the store is away, exceed that without a fault of theirs. Older versions have no limit and refuse the policy.
 */
export async function liftDeliveryLimit(admin: Pick<BrokerAdmin, 'setQueuePolicy'>): Promise<boolean> {
  return admin.setQueuePolicy('funcx-no-delivery-limit', '^(ep[.].*[.]tasks|funcx[.]results)$', { 'delivery-limit': -1 });
}

/** The queues of one endpoint. They must exist before their names are given out. */
async function declareEndpointQueues(model: ChannelModel, endpointQueueId: string): Promise<void> {
  await onChannel(model, async (channel) => {
    await declareTasksQueue(channel, endpointQueueId);
    await declareCommandQueue(channel, endpointQueueId);
  });
}

async function declareTasksQueue(channel: Channel, endpointQueueId: string): Promise<void> {
  await channel.assertQueue(tasksQueueName(endpointQueueId), TASK_QUEUE);
}

async function declareCommandQueue(channel: Channel, endpointId: string): Promise<{ consumerCount: number }> {
  return channel.assertQueue(commandQueueName(endpointId), { durable: true, messageTtl: COMMAND_TTL_MS });
}

/** The queues of endpoints. */
export interface EndpointQueues {
  declare(endpointQueueId: string): Promise<void>;
  /** True while an agent consumes commands. Knows of a dead agent before its heartbeats are missed. */
  hasListener(endpointQueueId: string): Promise<boolean>;
  /** True while an agent consumes tasks: the only sign of life of an agent without a command queue. */
  hasConsumer(endpointQueueId: string): Promise<boolean>;
  delete(endpointQueueId: string): Promise<void>;
}

export function createEndpointQueues(broker: {
  withChannel<T>(use: (model: ChannelModel) => Promise<T>): Promise<T>;
}): EndpointQueues {
  return {
    declare: (id) => broker.withChannel((model) => declareEndpointQueues(model, id)),

    hasListener: (id) =>
      broker.withChannel((model) =>
        onChannel(model, async (channel) => {
          const { consumerCount } = await declareCommandQueue(channel, id);
          return consumerCount > 0;
        }),
      ),

    hasConsumer: (id) =>
      broker.withChannel((model) =>
        onChannel(model, async (channel) => {
          const { consumerCount } = await channel.assertQueue(tasksQueueName(id), TASK_QUEUE);
          return consumerCount > 0;
        }),
      ),

    delete: (id) =>
      broker.withChannel((model) =>
        onChannel(model, async (channel) => {
          await channel.deleteQueue(tasksQueueName(id));
          await channel.deleteQueue(commandQueueName(id));
        }),
      ),
  };
}

/** The queues of stock endpoints: core endpoints consume commands, user endpoints consume tasks. */
export interface StockQueues {
  declareCommands(endpointId: string): Promise<void>;
  declareTasks(endpointQueueId: string): Promise<void>;
  /** Purges tasks that no agent has received. */
  emptyTasks(endpointQueueId: string): Promise<void>;
  /** The number of results on the result queue. */
  countResults(): Promise<number>;
}

export function createStockQueues(broker: { withChannel<T>(use: (model: ChannelModel) => Promise<T>): Promise<T> }): StockQueues {
  const use = <T>(work: (channel: Channel) => Promise<T>): Promise<T> => broker.withChannel((model) => onChannel(model, work));
  return {
    declareCommands: (id) => use(async (channel) => void (await declareCommandQueue(channel, id))),
    declareTasks: (id) => use((channel) => declareTasksQueue(channel, id)),
    emptyTasks: (id) =>
      use(async (channel) => {
        await declareTasksQueue(channel, id); // purging a queue that does not exist is an error
        await channel.purgeQueue(tasksQueueName(id));
      }),
    countResults: () => use(async (channel) => (await channel.checkQueue(QUEUE.results)).messageCount),
  };
}
