import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';

import { Acknowledgements } from './acknowledgements';
import { closeQuietly } from './close-quietly';
import type { BrokerLog } from './log';
import { ReceiveWindow } from './receive-window';

/** What the messages of one batch share: the broker's message is settled when each of them is. */
export interface ReceivedBatch {
  readonly size: number;
  /** Messages that are not acknowledged yet. */
  readonly open: number;
}

/** A message that a consumer received. Whoever makes its effect durable acknowledges it. */
export interface ReceivedMessage {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly headers: Record<string, unknown>;
  /** Present if the message came in a batch, see `splitBatch`. */
  readonly batch?: ReceivedBatch;
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
  /** Bodies of unacknowledged messages, about: the consumer asks for fewer messages while they are large. Default: no limit. */
  prefetchBytes?: number;
  exclusive?: boolean;
  /** The consumers of a queue with the highest priority get all messages until they hold as many as they may. Default: 0. */
  priority?: number;
  /** `pause` and `close` wait for the returned promise, which must not reject. */
  onMessage: (message: ReceivedMessage) => void | Promise<void>;
  /** The channel closed (a consumer timeout, a deleted queue). The consumer opens another one. */
  onInterrupted?: () => void;
}

const REBUILD_BACKOFF_MS = 500;
/** The consumer asks anew when it wants at least this many times as many messages, or as few. */
const RESIZE_FACTOR = 2;
/** Without messages for this long, the window starts anew. */
const PAUSE_MS = 1_000;

export class Consumer {
  #channel: Channel | undefined;
  #acknowledgements: Acknowledgements | undefined;
  #tag: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isPaused = false;
  /** Undefined when only the number of messages is limited. */
  #window: ReceiveWindow | undefined;
  /** What the broker was asked for; 0 while the window is full. */
  #asked = 0;
  /** The window asks anew, one request after another. */
  #resizing: Promise<void> | undefined;
  #receivedAt = 0;
  #pauseTimer: NodeJS.Timeout | undefined;
  readonly #inHand = new Set<Promise<void>>();

  constructor(
    private readonly options: ConsumerOptions,
    private readonly log: BrokerLog,
  ) {}

  /** False while nothing is consumed; health checks report it. A consumer that holds as much as it may is healthy. */
  get isConsuming(): boolean {
    return this.#tag !== undefined || (this.#window !== undefined && this.#channel !== undefined && !this.#isPaused);
  }

  async attach(model: ChannelModel): Promise<void> {
    if (this.#isClosed || this.#isPaused) return;
    const channel = await model.createChannel();
    const queue = this.#queueName();
    channel.on('error', (error: Error) => this.log.warn({ queue, reason: error.message }, 'a consumer lost its channel'));
    channel.on('close', () => this.#onChannelClosed(model, channel));
    this.#acknowledgements = new Acknowledgements(channel);
    this.#channel = channel;
    const { prefetch, prefetchBytes } = this.options;
    // What an earlier channel delivered will be delivered again.
    this.#window = prefetchBytes === undefined ? undefined : new ReceiveWindow({ messages: prefetch, bytes: prefetchBytes });
    await this.#consume(channel, this.#window?.messages ?? prefetch);
  }

  async #consume(channel: Channel, messages: number): Promise<void> {
    const acknowledgements = this.#acknowledgements;
    const window = this.#window;
    if (!acknowledgements) return;
    this.#asked = messages;
    await channel.prefetch(messages); // for consumers that start from now on
    const { consumerTag } = await channel.consume(
      this.#queueName(),
      (message) => {
        // null: the broker cancelled the consumer because the queue was deleted or moved; 'close' opens another channel
        if (!message) {
          void closeQuietly(channel);
          return;
        }
        window?.received(message.content.length);
        if (window && this.#channel === channel) this.#watchForPause(channel, window);
        const onSettled = (): void => {
          window?.settled(message.content.length);
          this.#resize(channel);
        };
        this.#receive(received(message, acknowledgements, () => this.#channel === channel, onSettled));
        this.#resize(channel);
      },
      { exclusive: this.options.exclusive ?? false, priority: this.options.priority },
    );
    if (this.#channel !== channel) return;
    this.#tag = consumerTag;
    this.#resize(channel);
  }

  /** Asks for more or fewer messages, where the window says so. */
  #resize(channel: Channel): void {
    if (this.#resizing || this.#channel !== channel || this.#isPaused || this.#isClosed) return;
    // The broker has not confirmed the present consumer yet: it has no tag to cancel it by.
    if (this.#asked > 0 && this.#tag === undefined) return;
    const wanted = this.#wanted();
    if (wanted === this.#asked) return;
    this.#resizing = this.#askFor(channel, wanted)
      .catch(() => undefined) // the channel is gone; the next one starts with a window of its own
      .finally(() => {
        this.#resizing = undefined;
        this.#resize(channel);
      });
  }

  /** Looks once a second, not at each message. */
  #watchForPause(channel: Channel, window: ReceiveWindow): void {
    this.#receivedAt = performance.now();
    this.#pauseTimer ??= setInterval(() => {
      if (performance.now() - this.#receivedAt < PAUSE_MS) return;
      this.#stopWatching();
      window.startAnew();
      this.#resize(channel);
    }, PAUSE_MS).unref();
  }

  #stopWatching(): void {
    clearInterval(this.#pauseTimer);
    this.#pauseTimer = undefined;
  }

  #wanted(): number {
    const window = this.#window;
    if (!window || window.isFull) return window ? 0 : this.#asked;
    if (this.#asked === 0) return window.hasRoom ? window.messages : 0;
    const isFarOff = window.messages >= this.#asked * RESIZE_FACTOR || window.messages * RESIZE_FACTOR <= this.#asked;
    return isFarOff || window.messages === this.options.prefetch ? window.messages : this.#asked;
  }

  /** A consumer keeps the prefetch that it started with, so another one takes its place. */
  async #askFor(channel: Channel, messages: number): Promise<void> {
    const tag = this.#tag;
    this.#tag = undefined;
    this.#asked = messages;
    if (tag) await channel.cancel(tag);
    if (messages > 0 && this.#channel === channel && !this.#isPaused) await this.#consume(channel, messages);
  }

  detach(): void {
    clearTimeout(this.#timer);
    this.#stopWatching();
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
    await this.#resizing;
    const tag = this.#tag;
    this.#tag = undefined;
    if (tag && this.#channel) await this.#channel.cancel(tag).catch(() => undefined); // a lost channel consumes nothing
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#stopWatching();
    const channel = this.#channel;
    this.#acknowledgements?.flush();
    this.#channel = undefined;
    this.#tag = undefined;
    if (channel) await closeQuietly(channel);
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

/** `onSettled` is called once, when the message is acknowledged or rejected on its channel. */
function received(
  message: ConsumeMessage,
  acknowledgements: Acknowledgements,
  isCurrent: () => boolean,
  onSettled: () => void,
): ReceivedMessage {
  acknowledgements.add(message);
  let isSettled = false;
  const settle = (how: () => void): void => {
    if (isSettled || !isCurrent()) return;
    isSettled = true;
    how();
    onSettled();
  };
  return {
    body: message.content,
    routingKey: message.fields.routingKey,
    headers: message.properties.headers ?? {},
    ack: () => settle(() => acknowledgements.ack(message)),
    nack: (requeue) => settle(() => acknowledgements.nack(message, requeue)),
  };
}
