import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';

import { Acknowledgements } from './acknowledgements';
import type { BrokerLog } from './log';

/** A message that a consumer received. Whoever makes its effect durable acknowledges it. */
export interface ReceivedMessage {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly headers: Record<string, unknown>;
  /** Does nothing when the channel of the message is gone: the broker delivers the message again. */
  ack(): void;
  /** Rejects the message: back to its queue, or to the dead letters. */
  nack(requeue: boolean): void;
}

export interface ConsumerOptions {
  /** A function is called at each connection. */
  queue: string | (() => string);
  /** Unacknowledged messages at most. */
  prefetch: number;
  exclusive?: boolean;
  /** `pause` and `close` wait for the returned promise, which must not reject. */
  onMessage: (message: ReceivedMessage) => void | Promise<void>;
  /** The channel closed (a consumer timeout, a deleted queue). The consumer opens another one. */
  onInterrupted?: () => void;
}

const REBUILD_BACKOFF_MS = 500;

export class Consumer {
  #channel: Channel | undefined;
  #acknowledgements: Acknowledgements | undefined;
  #tag: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isPaused = false;
  readonly #inHand = new Set<Promise<void>>();

  constructor(
    private readonly options: ConsumerOptions,
    private readonly log: BrokerLog,
  ) {}

  /** False while nothing is consumed; health checks report it. */
  get isConsuming(): boolean {
    return this.#tag !== undefined;
  }

  async attach(model: ChannelModel): Promise<void> {
    if (this.#isClosed || this.#isPaused) return;
    const channel = await model.createChannel();
    const queue = this.#queueName();
    channel.on('error', (error: Error) => this.log.warn({ queue, reason: error.message }, 'a consumer lost its channel'));
    channel.on('close', () => this.#onChannelClosed(model, channel));
    const acknowledgements = new Acknowledgements(channel);
    this.#acknowledgements = acknowledgements;
    this.#channel = channel;
    await channel.prefetch(this.options.prefetch);
    const { consumerTag } = await channel.consume(
      queue,
      (message) => {
        // null: the broker cancelled the consumer because the queue was deleted or moved; 'close' opens another channel
        if (!message) void channel.close().catch(() => undefined);
        else this.#receive(received(message, acknowledgements, () => this.#channel === channel));
      },
      { exclusive: this.options.exclusive ?? false },
    );
    this.#tag = consumerTag;
  }

  detach(): void {
    clearTimeout(this.#timer);
    const wasConsuming = this.#channel !== undefined;
    this.#acknowledgements?.drop();
    this.#channel = undefined;
    this.#tag = undefined;
    if (wasConsuming) this.options.onInterrupted?.();
  }

  /**
   * Receives no more messages, also after a reconnect, and waits for those in hand. Their acknowledgements are accepted
   * until `close`.
   */
  async pause(): Promise<void> {
    this.#isPaused = true;
    const tag = this.#tag;
    this.#tag = undefined;
    if (tag && this.#channel) await this.#channel.cancel(tag).catch(() => undefined); // a lost channel consumes nothing
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const channel = this.#channel;
    this.#acknowledgements?.flush();
    this.#channel = undefined;
    this.#tag = undefined;
    await channel?.close().catch(() => undefined); // a lost channel is closed
  }

  #queueName(): string {
    const { queue } = this.options;
    return typeof queue === 'string' ? queue : queue();
  }

  #receive(message: ReceivedMessage): void {
    const work = this.options.onMessage(message);
    if (!work) return;
    const tracked: Promise<void> = work
      .catch((error: unknown) => this.log.warn({ err: error }, 'the handler of a message failed'))
      .finally(() => this.#inHand.delete(tracked));
    this.#inHand.add(tracked);
  }

  #onChannelClosed(model: ChannelModel, channel: Channel): void {
    if (this.#channel !== channel || this.#isClosed) return;
    this.detach();
    this.#timer = setTimeout(() => {
      // Fails on a lost connection; the next connection attaches.
      this.attach(model).catch(() => {
        if (this.#channel) this.#onChannelClosed(model, this.#channel);
      });
    }, REBUILD_BACKOFF_MS);
  }
}

function received(message: ConsumeMessage, acknowledgements: Acknowledgements, isCurrent: () => boolean): ReceivedMessage {
  acknowledgements.add(message);
  return {
    body: message.content,
    routingKey: message.fields.routingKey,
    headers: message.properties.headers ?? {},
    ack: () => {
      if (isCurrent()) acknowledgements.ack(message);
    },
    nack: (requeue) => {
      if (isCurrent()) acknowledgements.nack(message, requeue);
    },
  };
}
