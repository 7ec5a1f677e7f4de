import { setTimeout as sleep } from 'node:timers/promises';

import { ApiError } from '../client';
import type { AgentRegistration, RegisterAgent } from '../contracts/http/v1';

import type { ServiceClient } from './service-client';
import type { StateDir } from './state-dir';

/**
 * Registers before every broker connection, because each registration creates the credentials of one connection.
 *
 * | response of the service | before the first success | later |
 * |---|---|---|
 * | 2xx | stored | stored |
 * | 401, 403, 409, 422 | the agent ends, with the service's message | retries slowly |
 * | 404 (deleted) | the agent ends | the agent ends |
 * | 423 (stopped remotely) | the agent ends, with exit code 0 | the agent ends, with exit code 0 |
 * | 408, 429, 5xx, none | retries, honours `Retry-After` | retries, honours `Retry-After` |
 */

/** `EX_CONFIG`: starting the agent again without a change ends in the same way. */
export const EXIT_REFUSED = 78;

/** Thrown when the service refuses the agent and retrying is useless. */
export class RegistrationRefusedError extends Error {
  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message);
    this.name = 'RegistrationRefusedError';
  }
}

export interface RegistrarOptions {
  client: ServiceClient;
  state: StateDir;
  body: Omit<RegisterAgent, 'replace'>;
  wishedId: string | undefined;
}

const SLOW_RETRY_MS = 30_000;

export class Registrar {
  #present: AgentRegistration | undefined;
  readonly #aborted = new AbortController();

  constructor(private readonly options: RegistrarOptions) {}

  get present(): AgentRegistration | undefined {
    return this.#present;
  }

  /** Throws {@link RegistrationRefusedError} if a retry is useless. After other errors, a required pause has passed. */
  async register(): Promise<AgentRegistration> {
    const { client, state, body, wishedId } = this.options;
    const ownId = state.endpointId;
    // An earlier agent of this directory is dead, because this agent has the lock, but the service may not know that yet. Replace
    // it only at the start: an agent that was replaced while it was disconnected must not take the endpoint back.
    const replace = this.#present === undefined && ownId !== undefined;
    try {
      const registration = await client.register({ ...body, replace }, ownId ?? wishedId);
      state.rememberEndpoint(registration.endpoint_id);
      this.#present = registration;
      return registration;
    } catch (error) {
      if (error instanceof ApiError) {
        this.#throwIfRefused(error);
        const pauseMs = error.retryAfterS !== undefined ? error.retryAfterS * 1000 : error.isTemporary ? 0 : SLOW_RETRY_MS;
        await pause(pauseMs, this.#aborted.signal);
      }
      throw error;
    }
  }

  /** Ends a current pause. */
  close(): void {
    this.#aborted.abort();
  }

  #throwIfRefused(error: ApiError): void {
    if (error.isTemporary) return;
    if (error.status === 423) throw new RegistrationRefusedError(error.message, 0);
    if (error.status === 404 || this.#present === undefined) throw new RegistrationRefusedError(error.message, EXIT_REFUSED);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => undefined); // aborted
}
