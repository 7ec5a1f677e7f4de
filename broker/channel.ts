import type { Channel, ChannelModel } from 'amqplib';

import { closeQuietly } from './close-quietly';

/** Declarations and queries. Each call rejects with a {@link BrokerRefusal} if the broker refuses it. */
export interface BrokerChannel {
  declareQueue(name: string, options: QueueOptions): Promise<QueueState>;
  /** Rejects if the queue does not exist ({@link BrokerRefusal.isMissing}) or cannot be reached. */
  checkQueue(name: string): Promise<QueueState>;
  deleteQueue(name: string): Promise<void>;
  /** Removes the messages that no consumer has received. */
  purgeQueue(name: string): Promise<void>;
  declareTopicExchange(name: string): Promise<void>;
  bindQueue(queue: string, exchange: string, pattern: string): Promise<void>;
}

export interface QueueOptions {
  /** A quorum queue: replicated, on disk. Default: a classic queue. */
  isQuorum?: boolean;
  messageTtlMs?: number;
  /** The queue is removed after it was unused for this time. */
  expiresMs?: number;
  deadLetterQueue?: string;
}

export interface QueueState {
  /** Messages that are ready to be delivered. */
  messageCount: number;
  consumerCount: number;
}

/**
 * True if the queue certainly holds no message that is ready. If the leader of a quorum queue does not answer within 250 ms,
 * RabbitMQ reports 0 messages and 0 consumers (`rabbit_quorum_queue:stat`), so such a report proves nothing.
 */
export function isSurelyEmpty({ messageCount, consumerCount }: QueueState): boolean {
  return messageCount === 0 && consumerCount > 0;
}

/** Thrown when the broker refuses a request; `code` is the AMQP reply code. */
export class BrokerRefusal extends Error {
  constructor(
    readonly code: number,
    cause: Error,
  ) {
    super(cause.message, { cause });
    this.name = 'BrokerRefusal';
  }

  /**
   * True if the queue does not exist. RabbitMQ also sends code 404 for a queue that it cannot reach, because the queue crashed or
   * its node is down (`rabbit_amqqueue`, "has crashed and failed to restart", "is down or inaccessible").
   */
  get isMissing(): boolean {
    return this.code === 404 && this.message.includes('no queue');
  }
}

/** Runs `use` on a channel that is closed afterwards. */
export async function withChannelOf<T>(model: ChannelModel, use: (channel: BrokerChannel) => Promise<T>): Promise<T> {
  const channel = await openQuietly(model);
  try {
    return await use(wrap(channel));
  } finally {
    await closeQuietly(channel); // quietly: the broker closes a channel when it refuses a request
  }
}

/** A channel that is opened at the first call on a connection and kept for further calls. */
export class KeptChannel {
  #model: ChannelModel | undefined;
  #channel: Promise<BrokerChannel> | undefined;

  async use<T>(work: (channel: BrokerChannel) => Promise<T>): Promise<T> {
    if (!this.#model) throw new Error('the message broker is not connected');
    this.#channel ??= this.#open(this.#model);
    return work(await this.#channel);
  }

  async attach(model: ChannelModel): Promise<void> {
    this.#model = model;
    this.#channel = undefined;
  }

  detach(): void {
    this.#model = undefined;
    this.#channel = undefined;
  }

  async close(): Promise<void> {
    this.detach(); // the connection closes its channels
  }

  async #open(model: ChannelModel): Promise<BrokerChannel> {
    const forget = (): void => {
      if (this.#channel === opening) this.#channel = undefined;
    };
    const opening = openQuietly(model, forget).then(wrap);
    this.#channel = opening;
    opening.catch(forget);
    return opening;
  }
}

async function openQuietly(model: ChannelModel, onClose: () => void = () => undefined): Promise<Channel> {
  const channel = await model.createChannel();
  channel.on('error', () => undefined); // the refused call rejects with the same error
  channel.on('close', onClose);
  return channel;
}

function wrap(channel: Channel): BrokerChannel {
  return {
    declareQueue: (name, options) => refusable(channel.assertQueue(name, { durable: true, ...argumentsOf(options) })),
    checkQueue: (name) => refusable(channel.checkQueue(name)),
    deleteQueue: async (name) => void (await refusable(channel.deleteQueue(name))),
    purgeQueue: async (name) => void (await refusable(channel.purgeQueue(name))),
    declareTopicExchange: async (name) => void (await refusable(channel.assertExchange(name, 'topic', { durable: true }))),
    bindQueue: async (queue, exchange, pattern) => void (await refusable(channel.bindQueue(queue, exchange, pattern))),
  };
}

/** The broker compares the arguments with an existing queue, so equal options must give equal arguments in every release. */
function argumentsOf({ isQuorum, messageTtlMs, expiresMs, deadLetterQueue }: QueueOptions): {
  messageTtl?: number;
  expires?: number;
  arguments?: Record<string, unknown>;
} {
  return {
    messageTtl: messageTtlMs,
    expires: expiresMs,
    arguments: {
      ...(isQuorum ? { 'x-queue-type': 'quorum' } : {}),
      ...(deadLetterQueue === undefined ? {} : { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetterQueue }),
    },
  };
}

async function refusable<T>(call: PromiseLike<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (error instanceof Error && typeof code === 'number') throw new BrokerRefusal(code, error);
    throw error;
  }
}
