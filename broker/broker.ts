import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { connect, type ChannelModel } from 'amqplib';

import { KeptChannel, withChannelOf, type BrokerChannel } from './channel';
import { closeQuietly } from './close-quietly';
import { coalesceWrites } from './coalesce-writes';
import { Consumer, type ConsumerOptions } from './consumer';
import type { BrokerLog } from './log';
import { Publisher } from './publisher';
import { tolerateSilence } from './tolerate-silence';

/**
 * The connection to the message broker. It reconnects until its owner closes it. amqplib's own recovery always uses the same
 * address, but an agent must register again before each connection, so this class has its own loop.
 *
 * One connection consumes and declares. If there is a publisher, a second connection publishes: a broker that lacks memory or
 * disk stops reading from connections that publish, and acknowledgements must still reach it. Both are opened and lost together.
 *
 * States: `idle` -start-> `connecting` -ok-> `connected` -lost-> `connecting` ...; `close()` from any state ends in `closed`.
 * On each new connection, the `attach` of every part sets the part up again.
 */

export interface BrokerAddress {
  url: string;
  /** PEM of a private certificate authority. */
  ca?: string;
}

export interface BrokerOptions {
  /** Called before each connection; may register with the service first. A rejection counts as a failed connection. */
  address: () => Promise<BrokerAddress>;
  /** Shown in RabbitMQ's list of connections. */
  name: string;
  log: BrokerLog;
  /** AMQP heartbeat. Default 20 s. */
  heartbeatS?: number;
  /** How long the broker may be silent before the connection counts as lost. Default: two heartbeats. */
  maxSilenceS?: number;
  /** Maximum backoff between attempts to connect. Default 5 s. */
  maxBackoffMs?: number;
  onConnected?: () => void;
  /** Called when the broker stops and resumes reading from publishers. */
  onBlocked?: (isBlocked: boolean) => void;
}

type State = 'idle' | 'connecting' | 'connected' | 'closed';

interface Attached {
  attach(model: ChannelModel): Promise<void>;
  detach(): void;
  close(): Promise<void>;
}

interface Session {
  control: ChannelModel;
  publishing: ChannelModel | undefined;
  /** Resolves when either connection is lost. */
  lost: Promise<Error | undefined>;
}

const FIRST_BACKOFF_MS = 100;
const CONNECT_DEADLINE_MS = 10_000;
/** A request on a lost connection fails slightly before the connection reports its loss. */
const LOST_WITHIN_MS = 1_000;

export class Broker {
  #state: State = 'idle';
  #session: Session | undefined;
  readonly #publishers: Publisher[] = [];
  readonly #others: Attached[] = [];
  readonly #setups: ((channel: BrokerChannel) => Promise<void>)[] = [];
  #loop: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  #isBlocked = false;
  readonly #waiters = new Set<() => void>();

  constructor(private readonly options: BrokerOptions) {}

  get isConnected(): boolean {
    return this.#state === 'connected';
  }

  /** True while the broker does not read from publishers, because it lacks memory or disk space. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /** Registers a setup that runs on every connection, before any publish or consume. */
  onSetup(setup: (channel: BrokerChannel) => Promise<void>): void {
    this.#setups.push(setup);
  }

  /** Creates a publisher with a channel in confirm mode. Create the first publisher before `start`. */
  async publisher(): Promise<Publisher> {
    const publisher = new Publisher();
    this.#publishers.push(publisher);
    if (this.#session) {
      if (!this.#session.publishing) throw new Error('create the publisher before the connection starts');
      await publisher.attach(this.#session.publishing);
    }
    return publisher;
  }

  /** Creates a consumer that consumes until closed. It opens another channel if its channel or the connection is lost. */
  async consume(options: ConsumerOptions): Promise<Consumer> {
    return this.#add(new Consumer(options, this.options.log));
  }

  async keepChannel(): Promise<KeptChannel> {
    return this.#add(new KeptChannel());
  }

  async #add<T extends Attached>(part: T): Promise<T> {
    this.#others.push(part);
    const session = this.#session;
    if (!session) return part;
    try {
      await part.attach(session.control);
    } catch (error) {
      // If the connection is lost, the next connection attaches the part.
      const isLost = await Promise.race([session.lost.then(() => true), sleep(LOST_WITHIN_MS, false, { ref: false })]);
      if (!isLost) throw error;
    }
    return part;
  }

  async withChannel<T>(use: (channel: BrokerChannel) => Promise<T>): Promise<T> {
    if (!this.#session) throw new Error('the message broker is not connected');
    return withChannelOf(this.#session.control, use);
  }

  /** Resolves when connected for the first time. Rejects only if closed before that. */
  async start(): Promise<void> {
    if (this.#state !== 'idle') throw new Error(`a broker connection can start only once; it is ${this.#state}`);
    this.#state = 'connecting';
    this.#loop = this.#run();
    await this.whenConnected();
  }

  async whenConnected(): Promise<void> {
    if (this.#state === 'connected') return;
    if (this.#state === 'closed') throw new Error('the broker connection is closed');
    await new Promise<void>((resolve) => this.#waiters.add(resolve));
    if (this.#isClosed()) throw new Error('the broker connection is closed');
  }

  #isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** Drops the current connection, if any. The next connection requests a new address. */
  reconnect(): void {
    if (this.#session) void disconnect(this.#session);
  }

  /** Stops the consumers, waits for the confirms of the publishers, and closes the connections. */
  async close(): Promise<void> {
    const session = this.#session;
    for (const part of [...this.#others, ...this.#publishers]) await part.close();
    this.#state = 'closed';
    this.#session = undefined;
    this.#wake?.();
    this.#settleWaiters();
    if (session) await disconnect(session);
    await this.#loop;
  }

  #settleWaiters(): void {
    for (const resolve of this.#waiters) resolve();
    this.#waiters.clear();
  }

  async #run(): Promise<void> {
    const { name, log } = this.options;
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.#isClosed()) {
      try {
        const session = await this.#connectOnce();
        backoffMs = FIRST_BACKOFF_MS;
        this.#settleWaiters();
        if (this.#state === 'connected') this.options.onConnected?.();
        log.info({ broker: name }, 'connected to the message broker');
        const reason = await session.lost;
        if (this.#isClosed()) return;
        this.#state = 'connecting';
        this.#session = undefined;
        this.#detachAll();
        void disconnect(session);
        log.warn({ broker: name, reason: reason?.message }, 'lost the message broker');
      } catch (error) {
        if (this.#isClosed()) return;
        const reason = error instanceof Error ? error.message : String(error);
        log.warn({ broker: name, reason, retryMs: backoffMs }, 'cannot reach the message broker');
      }
      await this.#pause(backoffMs * (0.75 + Math.random() / 2));
      backoffMs = Math.min(backoffMs * 2, this.options.maxBackoffMs ?? 5_000);
    }
  }

  async #connectOnce(): Promise<Session> {
    const address = await this.options.address();
    const control = await this.#open(address, this.options.name);
    let session: Session = { control: control.model, publishing: undefined, lost: control.lost };
    try {
      if (this.#publishers.length > 0) {
        const publishing = await this.#open(address, `${this.options.name} (publishing)`);
        publishing.model.on('blocked', (reason: unknown) => this.#setBlocked(true, reason));
        publishing.model.on('unblocked', () => this.#setBlocked(false));
        session = { ...session, publishing: publishing.model, lost: Promise.race([control.lost, publishing.lost]) };
      }
      for (const setup of this.#setups) await withChannelOf(control.model, setup);
      for (const publisher of this.#publishers) if (session.publishing) await publisher.attach(session.publishing);
      for (const part of this.#others) await part.attach(control.model);
    } catch (error) {
      this.#detachAll();
      void disconnect(session); // not awaited: a broker that hangs must not delay the next attempt
      throw error;
    }
    if (this.#isClosed()) {
      await disconnect(session); // closed while connecting
      return session;
    }
    this.#session = session;
    this.#state = 'connected';
    return session;
  }

  async #open({ url, ca }: BrokerAddress, name: string): Promise<{ model: ChannelModel; lost: Promise<Error | undefined> }> {
    const address = new URL(url);
    address.searchParams.set('heartbeat', String(this.options.heartbeatS ?? 20));
    const model = await connect(address.toString(), {
      noDelay: true, // Nagle's algorithm costs 40 ms per round trip
      timeout: CONNECT_DEADLINE_MS,
      servername: address.hostname,
      ...(ca === undefined ? {} : { ca: [ca] }),
      clientProperties: { connection_name: name },
    });
    coalesceWrites(streamOf(model));
    if (this.options.maxSilenceS !== undefined) tolerateSilence(model, this.options.maxSilenceS * 1_000);
    let lastError: Error | undefined;
    model.on('error', (error: Error) => (lastError = error));
    const lost = new Promise<Error | undefined>((resolve) => model.on('close', (e?: Error) => resolve(e ?? lastError)));
    return { model, lost };
  }

  #detachAll(): void {
    this.#setBlocked(false);
    for (const part of [...this.#publishers, ...this.#others]) part.detach();
  }

  #setBlocked(isBlocked: boolean, reason?: unknown): void {
    if (isBlocked === this.#isBlocked) return;
    this.#isBlocked = isBlocked;
    for (const publisher of this.#publishers) publisher.setBlocked(isBlocked);
    const { name, log } = this.options;
    if (isBlocked)
      log.warn({ broker: name, reason }, 'the message broker is blocked: it accepts no messages until its alarm ends');
    else log.info({ broker: name }, 'the message broker is no longer blocked');
    this.options.onBlocked?.(isBlocked);
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

async function disconnect({ control, publishing }: Session): Promise<void> {
  await Promise.all([closeQuietly(control), publishing && closeQuietly(publishing)]);
}

/** Returns the socket of a connection, which the types of amqplib lack. */
function streamOf(model: ChannelModel): Writable {
  return (model.connection as unknown as { stream: Writable }).stream;
}
