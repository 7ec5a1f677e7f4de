import type { ChannelModel, ConfirmChannel, Message, Options } from 'amqplib';

/**
 * A publish settles on confirm, on return (no such queue), when the channel goes, or at its deadline; never silently.
 * There is no resend queue: who publishes decides whether to try again.
 */

export class PublishError extends Error {
  constructor(
    readonly reason: 'returned' | 'refused' | 'disconnected' | 'timeout',
    message: string,
  ) {
    super(message);
    this.name = 'PublishError';
  }
}

export interface PublishOptions extends Options.Publish {
  /** Milliseconds until the publish counts as failed. Default 10,000. */
  deadlineMs?: number;
}

interface Pending {
  messageId: string | undefined;
  settle(error?: PublishError): void;
}

const DEFAULT_DEADLINE_MS = 10_000;

export class Publisher {
  #channel: ConfirmChannel | undefined;
  readonly #pending = new Set<Pending>();

  get isOpen(): boolean {
    return this.#channel !== undefined;
  }

  /** Publishes persistently. With `mandatory`, give a `messageId`: a return is matched by it. */
  async publish(exchange: string, key: string, body: Uint8Array, options: PublishOptions = {}): Promise<void> {
    const channel = this.#channel;
    if (!channel) throw new PublishError('disconnected', 'the message broker is not connected');
    const { deadlineMs = DEFAULT_DEADLINE_MS, ...properties } = options;
    await new Promise<void>((resolve, reject) => {
      const pending: Pending = {
        messageId: properties.messageId,
        settle: (error) => {
          clearTimeout(timer);
          if (!this.#pending.delete(pending)) return;
          if (error) reject(error);
          else resolve();
        },
      };
      const timer = setTimeout(
        () => pending.settle(new PublishError('timeout', `no confirm from the broker within ${deadlineMs} ms`)),
        deadlineMs,
      );
      this.#pending.add(pending);
      try {
        channel.publish(exchange, key, toBuffer(body), { deliveryMode: 2, ...properties }, (error: unknown) => {
          if (error) pending.settle(new PublishError('refused', 'the broker did not take the message'));
          else pending.settle();
        });
      } catch (error) {
        pending.settle(new PublishError('disconnected', error instanceof Error ? error.message : String(error)));
      }
    });
  }

  async attach(model: ChannelModel): Promise<void> {
    const channel = await model.createConfirmChannel();
    channel.on('error', () => undefined); // 'close' follows and is handled
    channel.on('return', (message: Message) => this.#onReturn(message));
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.detach();
      // A channel alone was closed (a publish to a missing exchange, say): the connection may still be good.
      void this.attach(model).catch(() => undefined); // else the next connection attaches
    });
    this.#channel = channel;
  }

  detach(): void {
    this.#channel = undefined;
    for (const pending of [...this.#pending]) {
      pending.settle(new PublishError('disconnected', 'the connection to the broker was lost before the confirm'));
    }
  }

  async close(): Promise<void> {
    const channel = this.#channel;
    this.#channel = undefined;
    if (!channel) return;
    await channel.waitForConfirms().catch(() => undefined); // each publish has its own outcome
    await channel.close().catch(() => undefined); // already gone is closed
    this.detach();
  }

  #onReturn(message: Message): void {
    const messageId: unknown = message.properties.messageId;
    for (const pending of [...this.#pending]) {
      if (pending.messageId !== undefined && pending.messageId === messageId) {
        pending.settle(new PublishError('returned', `no queue takes messages for ${message.fields.routingKey}`));
      }
    }
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
