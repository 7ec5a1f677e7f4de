/**
 * Decides how many messages a consumer asks for, so that what it holds stays within a number of bytes. AMQP counts messages
 * only: the window starts small, grows while messages are small, and rests while the consumer holds too much. After a pause it
 * starts small again: what arrives next may have another size, and the broker sends a whole window of it at once.
 */

/** The first window, before the size of any message is known. */
const FIRST_MESSAGES = 64;
/** The estimate of a message's size falls by this factor with each smaller message. */
const DECAY = 0.98;

export interface WindowLimits {
  messages: number;
  bytes: number;
}

export class ReceiveWindow {
  #heldBytes = 0;
  /** Of a large message: high at once, and lower only after many small messages. */
  #largeBytes: number;

  constructor(private readonly limits: WindowLimits) {
    this.#largeBytes = limits.bytes / FIRST_MESSAGES;
  }

  received(bytes: number): void {
    this.#heldBytes += bytes;
    this.#largeBytes = Math.max(bytes, this.#largeBytes * DECAY, 1);
  }

  /** Nothing was received for a while. */
  startAnew(): void {
    this.#largeBytes = Math.max(this.#largeBytes, this.limits.bytes / FIRST_MESSAGES);
  }

  settled(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /** Messages to ask for. */
  get messages(): number {
    return Math.max(1, Math.min(this.limits.messages, Math.floor(this.limits.bytes / this.#largeBytes)));
  }

  /** The consumer should receive no more until `hasRoom`. */
  get isFull(): boolean {
    return this.#heldBytes >= this.limits.bytes;
  }

  get hasRoom(): boolean {
    return this.#heldBytes < this.limits.bytes / 2;
  }
}
