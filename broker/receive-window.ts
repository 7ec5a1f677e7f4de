/**
 * Decides the prefetch of a consumer, so that the messages it holds stay within a number of bytes. AMQP counts only messages:
 * the window starts small, grows while messages are small, and is full while the consumer holds too many bytes. After a pause the
 * window starts small again: the next messages may be larger, and the broker sends a whole window of them without waiting.
 */

/** The first window, before the size of any message is known. */
const FIRST_MESSAGES = 64;
/** Each smaller message multiplies the estimated message size by this factor. */
const DECAY = 0.98;

export interface WindowLimits {
  messages: number;
  bytes: number;
}

export class ReceiveWindow {
  #heldBytes = 0;
  /** Estimated size of a large message: rises immediately, falls only after many small messages. */
  #largeBytes: number;

  constructor(private readonly limits: WindowLimits) {
    this.#largeBytes = limits.bytes / FIRST_MESSAGES;
  }

  received(bytes: number): void {
    this.#heldBytes += bytes;
    this.#largeBytes = Math.max(bytes, this.#largeBytes * DECAY, 1);
  }

  startAnew(): void {
    this.#largeBytes = Math.max(this.#largeBytes, this.limits.bytes / FIRST_MESSAGES);
  }

  settled(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /** The prefetch to use. */
  get messages(): number {
    return Math.max(1, Math.min(this.limits.messages, Math.floor(this.limits.bytes / this.#largeBytes)));
  }

  get isFull(): boolean {
    return this.#heldBytes >= this.limits.bytes;
  }

  get hasRoom(): boolean {
    return this.#heldBytes < this.limits.bytes / 2;
  }
}
