import type { Writable } from 'node:stream';

import { connect, type ChannelModel } from 'amqplib';

import { coalesceWrites } from './coalesce-writes';
import { Consumer, type ConsumerOptions } from './consumer';
import { Publisher } from './publisher';

/**
 * One AMQP connection that is made again for as long as its owner wants it. amqplib's own recovery keeps one address;
 * an agent must be able to register anew for each connection, so the loop is here.
 *
 * States: `idle` -start-> `connecting` -ok-> `connected` -lost-> `connecting` ...; `close()` from any state ends in `closed`.
 * Everything that lives on the connection (publishers, consumers, topology) is set up again by its own `attach`.
 */

export interface BrokerAddress {
  url: string;
  /** PEM of a private certificate authority. */
  ca?: string;
}

export interface BrokerLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

export interface BrokerOptions {
  /** Asked before every connection; may register somewhere first. A rejection counts as a failed try. */
  address: () => Promise<BrokerAddress>;
  /** Shown in RabbitMQ's list of connections. */
  name: string;
  log: BrokerLog;
  /** AMQP heartbeat. Default 20 s. */
  heartbeatS?: number;
  /** Longest pause between tries. Default 5 s. */
  maxBackoffMs?: number;
  /** Told after each connection, when everything on it is set up. */
  onConnected?: () => void;
}

type State = 'idle' | 'connecting' | 'connected' | 'closed';

/** A part that must be rebuilt on every connection. */
interface Attached {
  attach(model: ChannelModel): Promise<void>;
  detach(): void;
  close(): Promise<void>;
}

const FIRST_BACKOFF_MS = 100;
const CONNECT_DEADLINE_MS = 10_000;

export class Broker {
  #state: State = 'idle';
  #model: ChannelModel | undefined;
  readonly #attached: Attached[] = [];
  readonly #setups: ((model: ChannelModel) => Promise<void>)[] = [];
  #loop: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  readonly #onConnected = new Set<() => void>();

  constructor(private readonly options: BrokerOptions) {}

  get isConnected(): boolean {
    return this.#state === 'connected';
  }

  /** Declares topology; runs on every connection before anything publishes or consumes on it. */
  onSetup(setup: (model: ChannelModel) => Promise<void>): void {
    this.#setups.push(setup);
  }

  /** A channel in confirm mode. May be asked for before or after `start`. */
  async publisher(): Promise<Publisher> {
    return this.#add(new Publisher());
  }

  /** Consumes until closed; rebuilt when its channel or the connection goes. */
  async consume(options: ConsumerOptions): Promise<Consumer> {
    return this.#add(new Consumer(options, this.options.log));
  }

  async #add<T extends Attached>(part: T): Promise<T> {
    this.#attached.push(part);
    if (this.#model && this.#state === 'connected') await part.attach(this.#model);
    return part;
  }

  /** A short-lived channel for one administrative step. */
  async withChannel<T>(use: (model: ChannelModel) => Promise<T>): Promise<T> {
    if (!this.#model || this.#state !== 'connected') throw new Error('the message broker is not connected');
    return use(this.#model);
  }

  /** Resolves at the first connection; rejects only when closed before. */
  async start(): Promise<void> {
    if (this.#state !== 'idle') throw new Error(`a broker connection starts once; it is ${this.#state}`);
    this.#state = 'connecting';
    this.#loop = this.#run();
    await this.whenConnected();
  }

  async whenConnected(): Promise<void> {
    if (this.#state === 'connected') return;
    if (this.#state === 'closed') throw new Error('the broker connection is closed');
    await new Promise<void>((resolve) => this.#onConnected.add(resolve));
    if (this.isClosed()) throw new Error('the broker connection is closed');
  }

  private isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** Drops the present connection, if any, so that the next one asks for a new address. */
  reconnect(): void {
    void this.#model?.close().catch(() => undefined); // already closing: the loop notices either way
  }

  /** Stops consumers, lets publishers flush, closes the connection. */
  async close(): Promise<void> {
    const model = this.#model;
    for (const part of this.#attached) await part.close();
    this.#state = 'closed';
    this.#wake?.();
    this.#settleWaiters();
    await model?.close().catch(() => undefined); // a connection that is already gone is closed
    await this.#loop;
  }

  #settleWaiters(): void {
    for (const resolve of this.#onConnected) resolve();
    this.#onConnected.clear();
  }

  async #run(): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.isClosed()) {
      try {
        const { model, closed } = await this.#connectOnce();
        backoffMs = FIRST_BACKOFF_MS;
        this.#settleWaiters();
        if (this.#state === 'connected') this.options.onConnected?.();
        this.options.log.info({ broker: this.options.name }, 'connected to the message broker');
        const reason = await closed;
        if (this.isClosed()) return;
        this.#state = 'connecting';
        this.#model = undefined;
        for (const part of this.#attached) part.detach();
        this.options.log.warn({ broker: this.options.name, reason: reason?.message }, 'lost the message broker');
        void model;
      } catch (error) {
        if (this.isClosed()) return;
        this.options.log.warn(
          { broker: this.options.name, reason: error instanceof Error ? error.message : String(error), retryMs: backoffMs },
          'can not reach the message broker',
        );
      }
      await this.#pause(backoffMs * (0.75 + Math.random() / 2));
      backoffMs = Math.min(backoffMs * 2, this.options.maxBackoffMs ?? 5_000);
    }
  }

  async #connectOnce(): Promise<{ model: ChannelModel; closed: Promise<Error | undefined> }> {
    const { url, ca } = await this.options.address();
    const address = new URL(url);
    address.searchParams.set('heartbeat', String(this.options.heartbeatS ?? 20));
    const model = await connect(address.toString(), {
      noDelay: true, // Nagle costs 40 ms a round trip
      timeout: CONNECT_DEADLINE_MS,
      servername: address.hostname,
      ...(ca === undefined ? {} : { ca: [ca] }),
      clientProperties: { connection_name: this.options.name },
    });
    coalesceWrites(streamOf(model));
    let lastError: Error | undefined;
    model.on('error', (error: Error) => (lastError = error));
    const closed = new Promise<Error | undefined>((resolve) => model.on('close', (e?: Error) => resolve(e ?? lastError)));
    try {
      for (const setup of this.#setups) await setup(model);
      for (const part of this.#attached) await part.attach(model);
    } catch (error) {
      for (const part of this.#attached) part.detach();
      await model.close().catch(() => undefined); // the first error is the one that matters
      throw error;
    }
    if (this.isClosed()) {
      await model.close().catch(() => undefined); // closed while connecting
      return { model, closed };
    }
    this.#model = model;
    this.#state = 'connected';
    return { model, closed };
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}

/** The socket of a connection; amqplib has it and does not name it in its types. */
function streamOf(model: ChannelModel): Writable {
  return (model.connection as unknown as { stream: Writable }).stream;
}
