import { IllegalOperationError, type Channel, type ConsumeMessage } from 'amqplib';

/**
 * The deliveries of a channel that wait for their acknowledgement. Those of one turn of the event loop are sent together:
 * where everything up to one delivery is acknowledged, the broker gets one frame for all, which is one command for a quorum
 * queue, instead of one for each.
 */
export class Acknowledgements {
  /** In the order of delivery; true once acknowledged. */
  readonly #open = new Map<ConsumeMessage, boolean>();
  #turn: ConsumeMessage[] = [];

  constructor(private readonly channel: Pick<Channel, 'ack' | 'nack'>) {}

  add(message: ConsumeMessage): void {
    this.#open.set(message, false);
  }

  /** Once for each message; what follows for it is left out. */
  ack(message: ConsumeMessage): void {
    if (this.#open.get(message) !== false) return;
    this.#open.set(message, true);
    if (this.#turn.push(message) === 1) process.nextTick(() => this.flush());
  }

  nack(message: ConsumeMessage, requeue: boolean): void {
    if (this.#open.delete(message)) this.channel.nack(message, false, requeue);
  }

  /** The channel is gone, and with it what it delivered. */
  drop(): void {
    this.#turn = [];
    this.#open.clear();
  }

  /** Sends what was acknowledged; also to be called before the channel is closed. */
  flush(): void {
    const turn = this.#turn;
    this.#turn = [];
    let last: ConsumeMessage | undefined;
    for (const [message, isAcknowledged] of this.#open) {
      if (!isAcknowledged) break;
      this.#open.delete(message);
      last = message;
    }
    try {
      if (last) this.channel.ack(last, true);
      for (const message of turn) if (this.#open.delete(message)) this.channel.ack(message);
    } catch (error) {
      // The channel is being closed: the broker delivers what it has no acknowledgement of again.
      if (!(error instanceof IllegalOperationError)) throw error;
    }
  }
}
