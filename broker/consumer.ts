import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';

import { Acknowledgements } from './acknowledgements';
import { closeQuietly } from './close-quietly';
import type { BrokerLog } from './log';
import { ReceiveWindow } from './receive-window';

/** Shared by the messages of one batch. The broker's message is settled when each message of the batch is settled. */
export interface ReceivedBatch {
  readonly size: number;
  /** Messages that are neither acknowledged nor rejected yet. */
  readonly open: number;
}

/** A message that a consumer received. Acknowledge it only after its effect is durable. */
export interface ReceivedMessage {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly headers: Record<string, unknown>;
  /** Present if the message came in a batch; see `splitBatch`. */
  readonly batch?: ReceivedBatch;
  /** Has no effect if the channel of the message is lost: the broker redelivers the message. */
  ack(): void;
  /** Rejects the message: with `requeue`, back to its queue; else to the dead letters. */
  nack(requeue: boolean): void;
}

export interface ConsumerOptions {
  /** A function is called each time the consumer starts to consume. */
  queue: string | (() => string);
  prefetch: number;
  /** Approximate limit for the bodies of unacknowledged messages: large messages lower the prefetch. Default: no limit. */
  prefetchBytes?: number;
  exclusive?: boolean;
  /** The queue's consumers with the highest priority get all messages until their prefetch is used up. Default: 0. */
  priority?: number;
  /** `pause` and `close` wait for the returned promise, which must not reject. */
  onMessage: (message: ReceivedMessage) => void | Promise<void>;
  /** Called when the channel closed (connection lost, consumer timeout, queue deleted). The consumer opens another channel. */
  onInterrupted?: () => void;
}

const REBUILD_BACKOFF_MS = 500;
/** The consumer changes its prefetch only if the wanted prefetch is larger or smaller by at least this factor. */
const RESIZE_FACTOR = 2;
/** After this time without a message, the window starts small again. */
const PAUSE_MS = 1_000;

export class Consumer {
  #model: ChannelModel | undefined;
  #channel: Channel | undefined;
  #acknowledgements: Acknowledgements | undefined;
  #tag: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isPaused = false;
  #window: ReceiveWindow | undefined;
  /** The current prefetch; 0 while the window is full. */
  #asked = 0;
  /** The change of the prefetch that is under way; changes run one after another. */
  #resizing: Promise<void> | undefined;
  #receivedAt = 0;
  #pauseTimer: NodeJS.Timeout | undefined;
  readonly #inHand = new Set<Promise<void>>();

  constructor(
    private readonly options: ConsumerOptions,
    private readonly log: BrokerLog,
  ) {}

  /** False while nothing is consumed; health checks report this. A consumer with a full window counts as consuming. */
  get isConsuming(): boolean {
    return this.#tag !== undefined || (this.#window !== undefined && this.#channel !== undefined && !this.#isPaused);
  }

  async attach(model: ChannelModel): Promise<void> {
    clearTimeout(this.#timer);
    this.#model = model;
    if (this.#isClosed || this.#isPaused) return;
    const channel = await model.createChannel();
    const queue = this.#queueName();
    channel.on('error', (error: Error) => this.log.warn({ queue, reason: error.message }, 'a consumer lost its channel'));
    channel.on('close', () => this.#onChannelClosed(model, channel));
    this.#acknowledgements = new Acknowledgements(channel);
    this.#channel = channel;
    const { prefetch, prefetchBytes } = this.options;
    // A new window: the broker redelivers what an earlier channel delivered.
    this.#window = prefetchBytes === undefined ? undefined : new ReceiveWindow({ messages: prefetch, bytes: prefetchBytes });
    await this.#consume(channel, this.#window?.messages ?? prefetch);
  }

  async #consume(channel: Channel, messages: number): Promise<void> {
    const acknowledgements = this.#acknowledgements;
    const window = this.#window;
    if (!acknowledgements) return;
    this.#asked = messages;
    await channel.prefetch(messages); // applies to consumers that start after this call
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

  #resize(channel: Channel): void {
    if (this.#resizing || this.#channel !== channel || this.#isPaused || this.#isClosed) return;
    // The broker has not confirmed the current consumer yet, so there is no tag to cancel it.
    if (this.#asked > 0 && this.#tag === undefined) return;
    const wanted = this.#wanted();
    if (wanted === this.#asked) return;
    this.#resizing = this.#askFor(channel, wanted)
      .catch(() => undefined) // the channel is lost; the next one starts with a new window
      .finally(() => {
        this.#resizing = undefined;
        this.#resize(channel);
      });
  }

  /** Detects a pause with one timer, which costs less than a timer per message. */
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

  /** Replaces the consumer, because a consumer keeps the prefetch that it started with. */
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

  /** Receives no more messages, even after a reconnect. Waits for those in hand, which can be acknowledged until `close`. */
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
    this.#rebuildLater(model);
  }

  #rebuildLater(model: ChannelModel): void {
    clearTimeout(this.#timer); // a channel that closes while it is set up is reported twice
    this.#timer = setTimeout(() => {
      this.attach(model).catch(() => {
        if (this.#model !== model) return; // the connection was lost, and the next one has attached
        if (this.#channel) this.#onChannelClosed(model, this.#channel);
        else this.#rebuildLater(model);
      });
    }, REBUILD_BACKOFF_MS);
  }
}

/** Calls `onSettled` once, when the message is acknowledged or rejected on its channel. */
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
