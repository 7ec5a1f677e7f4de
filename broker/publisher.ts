import type { ChannelModel, ConfirmChannel, Message } from 'amqplib';

import { closeQuietly } from './close-quietly';

/**
 * A publish settles when the broker confirms it, when no queue accepts it, when the channel is lost, or at its deadline. Nothing
 * is resent: the caller decides whether to publish again.
 *
 * While the broker lacks memory or disk space, it does not read from publishers ("blocked"). Messages that were already written
 * stay in the socket and are processed later, so writing a message again would publish it twice.
 */

export class PublishError extends Error {
  constructor(
    readonly reason: 'returned' | 'refused' | 'disconnected' | 'timeout' | 'blocked',
    message: string,
  ) {
    super(message);
    this.name = 'PublishError';
  }
}

export interface PublishOptions {
  /** Time until the publish fails, in milliseconds. Default 10,000. */
  deadlineMs?: number;
  /** True: while the broker is blocked, the publish waits without a deadline. Default: it fails with `blocked`. */
  waitsWhileBlocked?: boolean;
  messageId?: string;
  /** Names of what the message carries. If unconfirmed writes carry all of it, waits for those instead of writing it twice. */
  writeKeys?: readonly string[];
  /** A message that no queue accepts fails with `returned`. Needs a `messageId`. */
  mandatory?: boolean;
  headers?: Record<string, unknown>;
  contentType?: string;
  /** Unix seconds. */
  timestamp?: number;
  userId?: string;
  /** False: a restart of the broker may lose the message. Default true. */
  isPersistent?: boolean;
}

/** A message that was written but is not confirmed yet. */
interface Write {
  messageId: string | undefined;
  /** The routing key: one answer may be written to two queues. */
  key: string;
  settled: Promise<void>;
  settle(error?: PublishError): void;
}

const DEFAULT_DEADLINE_MS = 10_000;
/** How long a probe may take before the broker counts as blocked. */
const PROBE_MS = 2_000;

export class Publisher {
  #channel: ConfirmChannel | undefined;
  readonly #writes = new Set<Write>();
  readonly #byKey = new Map<string, Write>();
  #isBlocked = false;
  #flowing: Promise<void> = Promise.resolve();
  #resume: () => void = () => undefined;

  #confirmedAtMs = 0;

  /** When the broker last confirmed a message; Unix milliseconds. */
  get confirmedAtMs(): number {
    return this.#confirmedAtMs;
  }

  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /** True while the broker is connected and, as far as this process knows, accepts messages. */
  get isReady(): boolean {
    return this.#channel !== undefined && !this.#isBlocked;
  }

  /** Rejects with a {@link PublishError}. While the broker is blocked, nothing new is written: the reason is `blocked`. */
  async publish(exchange: string, key: string, body: Uint8Array, options: PublishOptions = {}): Promise<void> {
    const { writeKeys = [], waitsWhileBlocked } = options;
    const isWritten = (): boolean => writeKeys.length > 0 && writeKeys.every((one) => this.isUnconfirmed(one));
    while (waitsWhileBlocked && this.#isBlocked && !isWritten()) await this.#flowing;
    const writes = isWritten()
      ? new Set(writeKeys.flatMap((one) => this.#byKey.get(one) ?? []))
      : [this.#write(exchange, key, body, options)];
    await Promise.all([...writes].map((write) => this.#confirmed(write, options)));
  }

  isUnconfirmed(writeKey: string): boolean {
    return this.#byKey.has(writeKey);
  }

  /**
   * Rejects with `blocked` if the broker does not soon confirm a probe. The broker notifies a connection that it is blocked only
   * after the connection published. Call this before republishing messages that another process may have published.
   */
  async requireFlowing(): Promise<void> {
    if (this.#isBlocked) throw blocked();
    try {
      // No queue has this name, so the broker drops the message and confirms it.
      await this.publish('', 'funcx.probe', Buffer.alloc(0), { deadlineMs: PROBE_MS, isPersistent: false });
    } catch (error) {
      if (error instanceof PublishError && error.reason === 'timeout') throw blocked();
      throw error;
    }
  }

  setBlocked(isBlocked: boolean): void {
    if (isBlocked === this.#isBlocked) return;
    this.#isBlocked = isBlocked;
    if (isBlocked) this.#flowing = new Promise((resolve) => (this.#resume = resolve));
    else this.#resume();
  }

  async attach(model: ChannelModel): Promise<void> {
    const channel = await model.createConfirmChannel();
    channel.on('error', () => undefined); // 'close' follows and is handled
    channel.on('return', (message: Message) => this.#onReturn(message));
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.detach();
      // The broker may have closed only the channel. On a lost connection this fails, and the next connection attaches.
      void this.attach(model).catch(() => undefined);
    });
    this.#channel = channel;
  }

  detach(): void {
    this.#channel = undefined;
    for (const write of [...this.#writes]) {
      write.settle(new PublishError('disconnected', 'the connection to the message broker was lost before the confirm'));
    }
  }

  async close(): Promise<void> {
    const channel = this.#channel;
    this.#channel = undefined;
    if (!channel) return;
    if (!this.#isBlocked) await channel.waitForConfirms().catch(() => undefined); // each publish reports its own outcome
    await closeQuietly(channel);
    this.detach();
  }

  #write(exchange: string, key: string, body: Uint8Array, options: PublishOptions): Write {
    const channel = this.#channel;
    if (!channel) throw new PublishError('disconnected', 'the message broker is not connected');
    if (this.#isBlocked) throw blocked();
    const { deadlineMs: _d, waitsWhileBlocked: _w, writeKeys = [], isPersistent = true, ...properties } = options;
    let settle!: Write['settle']; // assigned before the constructor of the promise returns
    const settled = new Promise<void>((resolve, reject) => {
      settle = (error) => {
        if (!this.#writes.delete(write)) return;
        for (const one of writeKeys) if (this.#byKey.get(one) === write) this.#byKey.delete(one);
        if (error) reject(error);
        else resolve();
      };
    });
    settled.catch(() => undefined); // a caller whose deadline passed no longer awaits it
    const write: Write = { messageId: options.messageId, key, settled, settle };
    this.#writes.add(write);
    for (const one of writeKeys) this.#byKey.set(one, write);
    try {
      channel.publish(exchange, key, toBuffer(body), { ...properties, persistent: isPersistent }, (error: unknown) => {
        if (!error) this.#confirmedAtMs = Date.now();
        write.settle(error ? new PublishError('refused', 'the message broker refused the message') : undefined);
      });
    } catch (error) {
      write.settle(new PublishError('disconnected', error instanceof Error ? error.message : String(error)));
    }
    return write;
  }

  async #confirmed(write: Write, { deadlineMs = DEFAULT_DEADLINE_MS, waitsWhileBlocked = false }: PublishOptions): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const check = (): void => {
        if (!this.#isBlocked) reject(new PublishError('timeout', `the message broker sent no confirm within ${deadlineMs} ms`));
        else if (waitsWhileBlocked) timer = setTimeout(check, deadlineMs);
        else reject(blocked());
      };
      timer = setTimeout(check, deadlineMs);
    });
    try {
      await Promise.race([write.settled, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #onReturn(message: Message): void {
    const messageId: unknown = message.properties.messageId;
    const { routingKey } = message.fields;
    for (const write of [...this.#writes]) {
      if (write.messageId !== undefined && write.messageId === messageId && write.key === routingKey) {
        write.settle(new PublishError('returned', `no queue accepts messages for ${routingKey}`));
      }
    }
  }
}

const blocked = (): PublishError =>
  new PublishError('blocked', 'the message broker accepts no messages: it lacks memory or disk space; see its log for the alarm');

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
