import { IllegalOperationError, type Channel, type ConsumeMessage } from 'amqplib';

/**
 * The unacknowledged messages of a channel. One frame can acknowledge all messages up to a given one, so the acknowledgements
 * of one turn of the event loop are sent together: a quorum queue processes each frame as a separate command.
 *
 * A channel that is being closed accepts no acknowledgement. The broker then redelivers its messages.
 */
export class Acknowledgements {
  /** In order of arrival. The value is true once the message is acknowledged. */
  readonly #open = new Map<ConsumeMessage, boolean>();
  #turn: ConsumeMessage[] = [];

  constructor(private readonly channel: Pick<Channel, 'ack' | 'nack'>) {}

  add(message: ConsumeMessage): void {
    this.#open.set(message, false);
  }

  /** A second acknowledgement of the same message has no effect. */
  ack(message: ConsumeMessage): void {
    if (this.#open.get(message) !== false) return;
    this.#open.set(message, true);
    if (this.#turn.push(message) === 1) process.nextTick(() => this.flush());
  }

  nack(message: ConsumeMessage, requeue: boolean): void {
    if (this.#open.delete(message)) unlessClosing(() => this.channel.nack(message, false, requeue));
  }

  /** Forgets every message. Call it when the channel is lost. */
  drop(): void {
    this.#turn = [];
    this.#open.clear();
  }

  /** Sends the acknowledgements of this turn. Call it before closing the channel as well. */
  flush(): void {
    const turn = this.#turn;
    this.#turn = [];
    let last: ConsumeMessage | undefined;
    for (const [message, isAcknowledged] of this.#open) {
      if (!isAcknowledged) break;
      this.#open.delete(message);
      last = message;
    }
    unlessClosing(() => {
      if (last) this.channel.ack(last, true);
      for (const message of turn) if (this.#open.delete(message)) this.channel.ack(message);
    });
  }
}

function unlessClosing(send: () => void): void {
  try {
    send();
  } catch (error) {
    if (!(error instanceof IllegalOperationError)) throw error;
  }
}
