import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';

import { Acknowledgements } from './acknowledgements';
import type { BrokerLog } from './broker';

/** A delivery that is acknowledged by whoever made its effect durable. */
export interface Delivery {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly redelivered: boolean;
  readonly properties: ConsumeMessage['properties'];
  readonly headers: Record<string, unknown>;
  /** Does nothing when the channel of the delivery is gone: the broker delivers again. */
  ack(): void;
  /** Gives it back: to the queue, or to nobody. */
  nack(requeue: boolean): void;
}

export interface ConsumerOptions {
  queue: string;
  /** Unacknowledged deliveries at most. */
  prefetch: number;
  exclusive?: boolean;
  onDelivery: (delivery: Delivery) => void;
  /** The channel closed (406 of a consumer timeout, queue deleted ...); it is rebuilt. */
  onInterrupted?: () => void;
}

const REBUILD_BACKOFF_MS = 500;

export class Consumer {
  #channel: Channel | undefined;
  #acknowledgements: Acknowledgements | undefined;
  #tag: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #isPaused = false;

  constructor(
    private readonly options: ConsumerOptions,
    private readonly log: BrokerLog,
  ) {}

  /** False while nothing is consumed; belongs into health checks. */
  get isConsuming(): boolean {
    return this.#tag !== undefined;
  }

  async attach(model: ChannelModel): Promise<void> {
    if (this.#closed || this.#isPaused) return;
    const channel = await model.createChannel();
    channel.on('error', (error: Error) => {
      this.log.warn({ queue: this.options.queue, reason: error.message }, 'a consumer lost its channel');
    });
    channel.on('close', () => this.#onChannelClosed(model, channel));
    const acknowledgements = new Acknowledgements(channel);
    this.#acknowledgements = acknowledgements;
    this.#channel = channel;
    await channel.prefetch(this.options.prefetch);
    const { consumerTag } = await channel.consume(
      this.options.queue,
      (message) => {
        // null: the broker cancelled the consumer, because the queue was deleted or moved
        if (message) this.options.onDelivery(deliveryOf(message, acknowledgements, () => this.#channel === channel));
        else void channel.close().catch(() => undefined); // 'close' rebuilds
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

  /** Takes no more deliveries, also after a reconnect; those handed out can still be acknowledged until `close`. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    const tag = this.#tag;
    this.#tag = undefined;
    if (tag && this.#channel) await this.#channel.cancel(tag);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const channel = this.#channel;
    this.#acknowledgements?.flush();
    this.#channel = undefined;
    this.#tag = undefined;
    await channel?.close().catch(() => undefined); // already gone is closed
  }

  #onChannelClosed(model: ChannelModel, channel: Channel): void {
    if (this.#channel !== channel || this.#closed) return;
    this.detach();
    this.#timer = setTimeout(() => {
      // On a lost connection this fails, and the next connection attaches.
      this.attach(model).catch(() => {
        if (this.#channel) this.#onChannelClosed(model, this.#channel);
      });
    }, REBUILD_BACKOFF_MS);
  }
}

function deliveryOf(message: ConsumeMessage, acknowledgements: Acknowledgements, isCurrent: () => boolean): Delivery {
  acknowledgements.add(message);
  return {
    body: message.content,
    routingKey: message.fields.routingKey,
    redelivered: message.fields.redelivered,
    properties: message.properties,
    headers: message.properties.headers ?? {},
    ack: () => {
      if (isCurrent()) acknowledgements.ack(message);
    },
    nack: (requeue) => {
      if (isCurrent()) acknowledgements.nack(message, requeue);
    },
  };
}
