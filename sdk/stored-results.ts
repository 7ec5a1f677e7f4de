import { setTimeout as sleep } from 'node:timers/promises';

import { groupResultSchema, type GroupResult } from '../contracts/http/v1';

import type { Client } from './client';
import { deliveredOf, type OnResult, type ResultSource } from './results';

/** Reads a group's results over HTTP, as events or by long poll (if a proxy buffers streams). Resumes at the cursor. */
export interface StoredResultsOptions {
  client: Client;
  taskGroupId: string;
  way: 'events' | 'poll';
  /** Read the results after this sequence number. Default: 0, which means all results. */
  after?: number;
  onResult: OnResult;
}

const WAIT_S = 20;
/** The service sends data at least every 15 s. After this much silence, the connection is considered dead. */
const SILENCE_MS = 45_000;
const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 5_000;

export class StoredResults implements ResultSource {
  readonly #closing = new AbortController();
  #cursor: number;
  #reading: Promise<void> = Promise.resolve();

  constructor(private readonly options: StoredResultsOptions) {
    this.#cursor = options.after ?? 0;
  }

  /** Sequence number of the last result that was passed to `onResult`. */
  get cursor(): number {
    return this.#cursor;
  }

  start(): void {
    this.#reading = this.#read();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reading;
  }

  async catchUp(): Promise<void> {
    while (!this.#closing.signal.aborted && (await this.#page(0)) > 0);
  }

  /** Never rejects: retries until closed. */
  async #read(): Promise<void> {
    const { signal } = this.#closing;
    let backoffMs = FIRST_BACKOFF_MS;
    while (!signal.aborted) {
      const before = this.#cursor;
      try {
        if (this.options.way === 'events') await this.#stream();
        else await this.#page(WAIT_S);
        backoffMs = FIRST_BACKOFF_MS;
        if (this.options.way === 'poll') continue;
      } catch {
        // Every failure is retried from the cursor: the service is unavailable, an event is cut short, or this reader was closed.
      }
      if (this.#cursor > before) backoffMs = FIRST_BACKOFF_MS;
      await sleep(backoffMs, undefined, { signal }).catch(() => undefined); // closed
      backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
    }
  }

  async #page(waitS: number): Promise<number> {
    const { client, taskGroupId } = this.options;
    const { signal } = this.#closing;
    const { results } = await client.groupResults(taskGroupId, { after: this.#cursor, waitS, signal });
    for (const result of results) this.#take(result);
    return results.length;
  }

  async #stream(): Promise<void> {
    const { client, taskGroupId } = this.options;
    const stream = await client.groupEvents(taskGroupId, this.#cursor, this.#closing.signal);
    stream.setEncoding('utf8');
    stream.setTimeout(SILENCE_MS, () => stream.destroy());
    let text = '';
    for await (const chunk of stream) {
      text += chunk as string;
      const events = text.split('\n\n');
      text = events.pop() ?? '';
      for (const event of events) this.#takeEvent(event);
    }
  }

  #takeEvent(event: string): void {
    const data = event.split('\n').filter((line) => line.startsWith('data: '));
    if (data.length === 0) return; // a comment, or a setting of the stream
    this.#take(groupResultSchema.parse(JSON.parse(data.map((line) => line.slice(6)).join('\n'))));
  }

  #take(result: GroupResult): void {
    this.options.onResult(deliveredOf(result));
    this.#cursor = Math.max(this.#cursor, result.seq);
  }
}
