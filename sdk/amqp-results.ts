import { setTimeout as sleep } from 'node:timers/promises';

import { Broker, BrokerRefusal, type BrokerChannel, type ReceivedMessage } from '../broker';
import { decodeBatch, isBatch } from '../contracts/batches';
import { decodeFrame } from '../contracts/frames';
import { batchQueueOf } from '../contracts/names';

import type { Client } from './client';
import type { DeliveredResult, OnResult, ResultSource } from './results';

/** Reads a group's result queue. Each connection needs new credentials. Acknowledges a result after handing it over. */
export interface AmqpResultsOptions {
  client: Client;
  taskGroupId: string;
  onResult: OnResult;
  /** Called when this source starts or stops receiving results. */
  onConnection: (isConnected: boolean) => void;
  /** Called when the queue does not exist: it expired because nobody read it. Its results are in the store. */
  onGone: () => void;
}

const PREFETCH = 1_000;
const MAX_BACKOFF_MS = 5_000;
/** The longest that `close` waits for a hanging connection attempt. */
const CLOSE_MS = 1_000;
const SILENT = { info: () => undefined, warn: () => undefined };

export class AmqpResults implements ResultSource {
  readonly #broker: Broker;
  #queue = '';
  #isClosed = false;

  constructor(private readonly options: AmqpResultsOptions) {
    const { client, taskGroupId } = options;
    this.#broker = new Broker({
      name: `results of ${taskGroupId}`,
      log: SILENT,
      maxBackoffMs: MAX_BACKOFF_MS,
      address: async () => {
        const { connection_url: url, queue_prefix: prefix, ca, batch_queues } = await client.resultsConnection();
        const queue = prefix + taskGroupId;
        // The other queue may be read by a stock client, so it is no substitute for a batch queue that expired.
        this.#queue = batch_queues === true ? batchQueueOf(queue) : queue;
        return { url, ca };
      },
      onConnected: () => this.options.onConnection(true),
    });
    this.#broker.onSetup((channel) => this.#requireQueue(channel));
  }

  start(): void {
    void this.#run().catch(() => undefined); // closed before the first connection
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.race([this.#broker.close(), sleep(CLOSE_MS, undefined, { ref: false })]);
  }

  async #run(): Promise<void> {
    await this.#broker.consume({
      queue: () => this.#queue,
      prefetch: PREFETCH,
      onMessage: (message) => this.#take(message),
      onInterrupted: () => this.#onInterrupted(),
    });
    await this.#broker.start();
  }

  #take(message: ReceivedMessage): void {
    for (const result of parseAll(message.body)) this.options.onResult(result);
    message.ack(); // even if the message cannot be parsed: a redelivery would not help
  }

  #onInterrupted(): void {
    if (this.#isClosed) return;
    this.options.onConnection(false);
    // The channel may have closed because the queue no longer exists. A new connection checks.
    this.#broker.reconnect();
  }

  async #requireQueue(channel: BrokerChannel): Promise<void> {
    try {
      await channel.checkQueue(this.#queue);
    } catch (error) {
      if (error instanceof BrokerRefusal && error.isMissing && !this.#isClosed) this.options.onGone();
      throw error;
    }
  }
}

function parseAll(body: Buffer): DeliveredResult[] {
  try {
    return isBatch(body) ? decodeBatch(body).flatMap((part) => parse(part.body) ?? []) : [parse(body) ?? []].flat();
  } catch {
    return [];
  }
}

function parse(body: Uint8Array): DeliveredResult | undefined {
  try {
    const frame = decodeFrame(body);
    if (frame.message_type !== 'result') return undefined;
    const { task_id: taskId, data, error_details: error } = frame.data;
    return error ? { taskId, exception: data, errorCode: error.code } : { taskId, result: data };
  } catch {
    return undefined;
  }
}
