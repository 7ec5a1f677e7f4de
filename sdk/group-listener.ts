import { AmqpResults } from './amqp-results';
import type { Client } from './client';
import type { OnResult } from './results';
import { StoredResults } from './stored-results';

/** AMQP, server-sent events or long poll. `auto`: AMQP, and server-sent events while the broker cannot be reached. */
export type Transport = 'auto' | 'amqp' | 'events' | 'poll';

export interface GroupListenerOptions {
  client: Client;
  taskGroupId: string;
  transport: Transport;
  onResult: OnResult;
}

/** How long `auto` waits for the broker before it reads over HTTP, in milliseconds. */
const FALLBACK_MS = 3_000;

export class GroupListener {
  #amqp: AmqpResults | undefined;
  #stored: StoredResults | undefined;
  #cursor = 0;
  #timer: NodeJS.Timeout | undefined;
  #isQueueGone = false;
  #isClosed = false;

  constructor(private readonly options: GroupListenerOptions) {}

  get way(): 'amqp' | 'events' | 'poll' {
    if (this.options.transport === 'poll') return 'poll';
    return this.#stored ? 'events' : 'amqp';
  }

  start(): void {
    const { client, taskGroupId, transport, onResult } = this.options;
    if (transport === 'events' || transport === 'poll') return this.#readStored();
    this.#amqp = new AmqpResults({
      client,
      taskGroupId,
      onResult,
      onConnection: (isConnected) => this.#onConnection(isConnected),
      onGone: () => this.#onGone(),
    });
    this.#amqp.start();
    this.#onConnection(false);
  }

  /** Hands over all results that are already stored. Later results arrive through the transport. */
  async catchUp(): Promise<void> {
    const { client, taskGroupId, transport, onResult } = this.options;
    if (transport === 'events' || transport === 'poll') return; // these transports read from the first result on
    await new StoredResults({ client, taskGroupId, way: 'poll', after: 0, onResult }).catchUp();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all([this.#amqp?.close(), this.#stored?.close()]);
  }

  #onConnection(isConnected: boolean): void {
    clearTimeout(this.#timer);
    if (this.#isClosed || this.options.transport !== 'auto') return;
    if (!isConnected) {
      this.#timer = setTimeout(() => this.#readStored(), FALLBACK_MS);
      return;
    }
    if (this.#isQueueGone || !this.#stored) return;
    // Results that were delivered while the broker was not connected are in the queue.
    this.#cursor = this.#stored.cursor;
    void this.#stored.close();
    this.#stored = undefined;
  }

  /** The results are only in the store now, so the store is read regardless of the configured transport. */
  #onGone(): void {
    this.#isQueueGone = true;
    clearTimeout(this.#timer);
    void this.#amqp?.close();
    this.#amqp = undefined;
    this.#readStored();
  }

  #readStored(): void {
    if (this.#isClosed || this.#stored) return;
    const { client, taskGroupId, transport, onResult } = this.options;
    const way = transport === 'poll' ? 'poll' : 'events';
    this.#stored = new StoredResults({ client, taskGroupId, way, after: this.#cursor, onResult });
    this.#stored.start();
  }
}
