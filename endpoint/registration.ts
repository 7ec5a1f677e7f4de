import { setTimeout as sleep } from 'node:timers/promises';

import { ApiError } from '../client';
import type { AgentRegistration, RegisterAgent } from '../contracts/http/v1';

import type { ServiceClient } from './service-client';
import type { StateDir } from './state-dir';

/**
 * Registers before every broker connection, because each registration mints the credentials of one connection.
 *
 * | the service says | before the first success | later |
 * |---|---|---|
 * | 2xx | remembered | remembered |
 * | 401, 403, 409, 422 | the agent ends, with the service's sentence | tried again, slowly |
 * | 404 (deleted) | ends | ends |
 * | 423 (stopped remotely) | ends, as a success | ends, as a success |
 * | 429, 5xx, nothing | tried again, `Retry-After` honoured | the same |
 */

/** `EX_CONFIG`: a supervisor that starts the agent again unchanged gets the same answer. */
export const EXIT_REFUSED = 78;

/** The service wants no agent here. */
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
  /** Everything of the body but `replace`. */
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

  /** Registers once. A rejection after a pause means: try again. Throws {@link RegistrationRefusedError} when there is no use. */
  async register(): Promise<AgentRegistration> {
    const { client, state, body, wishedId } = this.options;
    const ownId = state.endpointId;
    // An agent of this directory that did not say goodbye is dead (the lock is ours), though the service may not know yet.
    // Only at the start: an agent that was replaced while it was cut off must not take the endpoint back.
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

  /** Ends a pause that is under way. */
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
