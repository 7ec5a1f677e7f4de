import { isSurelyEmpty, type Broker, type BrokerChannel, type QueueOptions } from '../broker';
import type { BrokerAdmin } from './broker-admin';
import { commandQueueName, EXCHANGE, QUEUE, tasksQueueName } from '../contracts/names';

/** Exchanges and queues on the broker. Declare them only here: the broker refuses declarations with other arguments (406). */

/** If a process hangs, RabbitMQ hands its messages to another process after two to three of these periods. */
export const BROKER_HEARTBEAT_S = 5;
const SAFE_QUEUE: QueueOptions = { isQuorum: true, deadLetterQueue: QUEUE.deadLetters };
/** A command that nobody consumed within this time is stale: its agent is gone. */
const COMMAND_TTL_MS = 150_000;
/** An older status report says nothing about the present. */
const STATUS_TTL_MS = 60_000;

export async function declareService(channel: BrokerChannel): Promise<void> {
  await channel.declareQueue(QUEUE.deadLetters, {});
  await channel.declareTopicExchange(EXCHANGE.results);
  await channel.declareTopicExchange(EXCHANGE.status);
  await channel.declareQueue(QUEUE.results, SAFE_QUEUE);
  await channel.bindQueue(QUEUE.results, EXCHANGE.results, '*.results');
  await channel.declareQueue(QUEUE.status, { messageTtlMs: STATUS_TTL_MS });
  await channel.bindQueue(QUEUE.status, EXCHANGE.status, '*.status');
}

/**
 * RabbitMQ 4 dead-letters a message after 20 deliveries. Valid tasks of an agent that reconnects often, and valid results that
 * arrive while the store is unavailable, can exceed this limit. Older versions have no limit and refuse the policy.
 */
export async function liftDeliveryLimit(admin: Pick<BrokerAdmin, 'setQueuePolicy'>): Promise<boolean> {
  return admin.setQueuePolicy('funcx-no-delivery-limit', '^(ep[.].*[.]tasks|funcx[.]results)$', { 'delivery-limit': -1 });
}

const declareTasks = (channel: BrokerChannel, endpointQueueId: string) =>
  channel.declareQueue(tasksQueueName(endpointQueueId), SAFE_QUEUE);
const declareCommands = (channel: BrokerChannel, endpointId: string) =>
  channel.declareQueue(commandQueueName(endpointId), { messageTtlMs: COMMAND_TTL_MS });

export interface EndpointQueues {
  declare(endpointQueueId: string): Promise<void>;
  /** True while an agent consumes commands. Detects a dead agent sooner than missing heartbeats do. */
  hasListener(endpointQueueId: string): Promise<boolean>;
  /** True while an agent consumes tasks: the only sign of life of an agent without a command queue. */
  hasConsumer(endpointQueueId: string): Promise<boolean>;
  delete(endpointQueueId: string): Promise<void>;
}

export function createEndpointQueues(broker: Pick<Broker, 'withChannel'>): EndpointQueues {
  return {
    // Create both queues before their names are given to anybody.
    declare: (id) =>
      broker.withChannel(async (channel) => {
        await declareTasks(channel, id);
        await declareCommands(channel, id);
      }),
    hasListener: (id) => broker.withChannel(async (channel) => (await declareCommands(channel, id)).consumerCount > 0),
    hasConsumer: (id) => broker.withChannel(async (channel) => (await declareTasks(channel, id)).consumerCount > 0),
    delete: (id) =>
      broker.withChannel(async (channel) => {
        await channel.deleteQueue(tasksQueueName(id));
        await channel.deleteQueue(commandQueueName(id));
      }),
  };
}

/** The queues of stock endpoints: core endpoints consume commands, user endpoints consume tasks. */
export interface StockQueues {
  declareCommands(endpointId: string): Promise<void>;
  declareTasks(endpointQueueId: string): Promise<void>;
  /** Purges tasks that no agent has received. */
  emptyTasks(endpointQueueId: string): Promise<void>;
  /** True when no result waits on the result queue. False if the broker cannot tell. */
  hasNoResults(): Promise<boolean>;
}

export function createStockQueues(broker: Pick<Broker, 'withChannel'>): StockQueues {
  return {
    declareCommands: (id) => broker.withChannel(async (channel) => void (await declareCommands(channel, id))),
    declareTasks: (id) => broker.withChannel(async (channel) => void (await declareTasks(channel, id))),
    emptyTasks: (id) =>
      broker.withChannel(async (channel) => {
        await declareTasks(channel, id); // purging a missing queue is an error
        await channel.purgeQueue(tasksQueueName(id));
      }),
    hasNoResults: () => broker.withChannel(async (channel) => isSurelyEmpty(await channel.checkQueue(QUEUE.results))),
  };
}
