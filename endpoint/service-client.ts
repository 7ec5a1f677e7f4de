import http from 'node:http';
import https from 'node:https';

import { z } from 'zod';

import { agentRegistrationSchema, type AgentRegistration, type RegisterAgent } from '../contracts/http/v1';

/**
 * The agent's side of the service's HTTP interface: token, registration, bodies.
 * `node:https` instead of `fetch`: a private certificate authority needs no further package there.
 */

const SCOPE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
const TIMEOUT_MS = 30_000;
/** A token is renewed before its end, not after the first refusal. */
const RENEW_EARLY_MS = 60_000;

/** The service answered, but not with what was asked for. */
export class ServiceError extends Error {
  constructor(
    readonly status: number,
    /** The service's own sentence. */
    message: string,
    readonly retryAfterMs: number | undefined,
  ) {
    super(message);
    this.name = 'ServiceError';
  }

  /** The same request may succeed later. */
  get isTemporary(): boolean {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

export interface ServiceClientOptions {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  /** PEM of the authority that signed the service's certificate. */
  ca?: string;
}

interface Request {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: string;
}

const tokenSchema = z.object({ access_token: z.string(), expires_in: z.number().default(3600) });
const problemSchema = z
  .object({ detail: z.unknown(), reason: z.unknown(), title: z.unknown(), error_description: z.unknown() })
  .partial();

export class ServiceClient {
  readonly #agent: http.Agent;
  #token: { value: string; untilMs: number } | undefined;

  constructor(private readonly options: ServiceClientOptions) {
    this.#agent = options.apiUrl.startsWith('https:')
      ? new https.Agent({ keepAlive: true, ca: options.ca })
      : new http.Agent({ keepAlive: true });
  }

  /** Registers this process; the answer holds fresh broker credentials. With an id, the endpoint is made or taken over. */
  async register(body: RegisterAgent, id?: string): Promise<AgentRegistration> {
    const text = await this.#authorized({
      method: id ? 'PUT' : 'POST',
      path: id ? `/v1/endpoints/${id}` : '/v1/endpoints',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const parsed = agentRegistrationSchema.safeParse(parseJson(text));
    if (!parsed.success) throw new Error(`the service's registration answer is not understood: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  /** Fetches the task buffer that a claim stands for. */
  async fetchBody(path: string, token: string): Promise<string> {
    return this.#request({ method: 'GET', path, headers: { authorization: `Bearer ${token}` } });
  }

  /** Leaves a result that is too large for the broker. */
  async storeBody(path: string, token: string, body: string): Promise<void> {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'text/plain; charset=utf-8' };
    await this.#request({ method: 'PUT', path, headers, body });
  }

  close(): void {
    this.#agent.destroy();
  }

  async #authorized(request: Request): Promise<string> {
    const send = async (): Promise<string> =>
      this.#request({ ...request, headers: { ...request.headers, authorization: `Bearer ${await this.#accessToken()}` } });
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof ServiceError) || error.status !== 401) throw error;
      this.#token = undefined; // expired or revoked: a new one, once
      return send();
    }
  }

  async #accessToken(): Promise<string> {
    if (this.#token && Date.now() < this.#token.untilMs) return this.#token.value;
    const { clientId, clientSecret } = this.options;
    const text = await this.#request({
      method: 'POST',
      path: '/v2/oauth2/token',
      headers: {
        authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE }).toString(),
    });
    const { access_token: value, expires_in: seconds } = tokenSchema.parse(parseJson(text));
    this.#token = { value, untilMs: Date.now() + Math.max(seconds * 1000 - RENEW_EARLY_MS, 1_000) };
    return value;
  }

  async #request({ method, path, headers = {}, body }: Request): Promise<string> {
    const url = new URL(this.options.apiUrl + path);
    const send = url.protocol === 'https:' ? https.request : http.request;
    const bytes = body === undefined ? undefined : Buffer.from(body);
    return new Promise((resolve, reject) => {
      const request = send(url, {
        method,
        agent: this.#agent,
        headers: { ...headers, ...(bytes ? { 'content-length': bytes.length } : {}) },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      request.on('error', reject);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('error', reject);
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          const status = response.statusCode ?? 0;
          if (status >= 200 && status < 300) resolve(text);
          else reject(new ServiceError(status, sentenceOf(text, status), retryAfterMs(response.headers['retry-after'])));
        });
      });
      request.end(bytes);
    });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new Error('the service answered with something that is no JSON; is FUNCX_API_URL right?');
  }
}

function sentenceOf(text: string, status: number): string {
  try {
    const problem = problemSchema.parse(JSON.parse(text));
    for (const part of [problem.detail, problem.reason, problem.error_description, problem.title]) {
      if (typeof part === 'string' && part !== '') return part;
    }
  } catch {
    // not ours: a proxy's page, say
  }
  return `The service answered with HTTP status ${status}.`;
}

function retryAfterMs(header: string | undefined): number | undefined {
  const seconds = Number(header);
  return header !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}
