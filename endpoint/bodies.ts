import { setTimeout as sleep } from 'node:timers/promises';

import { ApiError } from '../client';
import type { BodyReference } from '../contracts/frames';

import type { ServiceClient } from './service-client';

/** Fetches large bodies while they are wanted. A fetch holds a place until its call starts, so few bodies are in memory. */

const FIRST_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 15_000;

export interface FetchedBody {
  text: string;
  /** Frees the place. Must be called once, when the call starts or is withdrawn. */
  release(): void;
}

export class Bodies {
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(
    private readonly client: ServiceClient,
    private readonly places: number,
    private readonly log: { warn(fields: object, text: string): void },
  ) {}

  /** Returns undefined if `isWanted` becomes false before the body arrives. Throws an `ApiError` that a retry cannot fix. */
  async fetch(claim: BodyReference, isWanted: () => boolean): Promise<FetchedBody | undefined> {
    if (this.#taken >= this.places) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#taken++;
    try {
      const text = await this.#fetchWithRetries(claim, isWanted);
      if (text !== undefined && isWanted()) return { text, release: () => this.#release() };
    } catch (error) {
      this.#release();
      throw error;
    }
    this.#release();
    return undefined;
  }

  async #fetchWithRetries(claim: BodyReference, isWanted: () => boolean): Promise<string | undefined> {
    for (let backoffMs = FIRST_BACKOFF_MS; isWanted(); backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)) {
      try {
        return await this.client.fetchBody(claim.path, claim.token);
      } catch (error) {
        if (error instanceof ApiError && !error.isTemporary) throw error;
        this.log.warn(
          { reason: String(error), path: claim.path, retryMs: backoffMs },
          'a body could not be fetched; the agent retries',
        );
      }
      await sleep(backoffMs, undefined, { ref: false });
    }
    return undefined;
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#taken--;
  }
}
