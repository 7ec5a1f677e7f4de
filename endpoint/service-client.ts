import { z } from 'zod';

import { ServiceHttp } from '../client';
import { agentRegistrationSchema, type AgentRegistration, type RegisterAgent } from '../contracts/http/v1';

export interface ServiceClientOptions {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  /** PEM text of a private certificate authority. */
  ca?: string;
}

const TIMEOUT_MS = 30_000;

/** The HTTP requests of an agent: registration and large bodies. Requests are not retried; each caller has its own backoff. */
export class ServiceClient {
  readonly #http: ServiceHttp;

  constructor(options: ServiceClientOptions) {
    this.#http = new ServiceHttp({ ...options, ca: options.ca, integers: 'refuse', retryForMs: 0, timeoutMs: TIMEOUT_MS });
  }

  /** Registers this process and returns new broker credentials. With an ID, creates or takes over that endpoint. */
  async register(body: RegisterAgent, id?: string): Promise<AgentRegistration> {
    const answer = await this.#http.request({
      method: id ? 'PUT' : 'POST',
      path: id ? `/v1/endpoints/${id}` : '/v1/endpoints',
      body,
    });
    const parsed = agentRegistrationSchema.safeParse(answer);
    if (parsed.success) return parsed.data;
    throw new Error(
      `The agent does not understand the service's response to its registration. Install the same release of agent and service. Details: ${z.prettifyError(parsed.error)}`,
    );
  }

  async fetchBody(path: string, token: string): Promise<string> {
    return this.#http.requestText({ method: 'GET', path, token });
  }

  async storeBody(path: string, token: string, body: string): Promise<void> {
    const headers = { 'content-type': 'text/plain; charset=utf-8' };
    await this.#http.requestText({ method: 'PUT', path, token, text: body, headers });
  }

  close(): void {
    this.#http.close();
  }
}
