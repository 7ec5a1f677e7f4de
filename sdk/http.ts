import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

import { ensureError, ERROR_CATALOGUE, type ErrorCode } from '../contracts/errors';

import type { ResolvedOptions } from './client-options';
import { ApiError, ConnectionError } from './errors';

/**
 * Requests to the service: token, retries, errors. `node:https` instead of `fetch`: a private certificate authority needs
 * no further package there.
 */

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  path: string;
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
  /** A request of unknown outcome may be sent again. Default: all but POST. */
  mayRepeat?: boolean;
  /** In place of the client's own. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

interface Answer {
  status: number;
  text: string;
  headers: http.IncomingHttpHeaders;
}

/** All rights of the compute service; the scope that Globus Compute's own clients ask for. */
const SCOPE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
/** A token is renewed before its end, not after the first refusal. */
const RENEW_EARLY_MS = 60_000;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

export class ServiceHttp {
  readonly #agent: http.Agent;
  #token: { value: Promise<string>; untilMs: number } | undefined;

  constructor(private readonly options: ResolvedOptions) {
    this.#agent = options.apiUrl.startsWith('https:')
      ? new https.Agent({ keepAlive: true, ca: options.ca })
      : new http.Agent({ keepAlive: true });
  }

  /** The parsed JSON of a good answer; throws {@link ApiError} or {@link ConnectionError}. */
  async request(request: HttpRequest): Promise<unknown> {
    const { text } = await this.#withRetries(request, () => this.#authorized(request, (headers) => this.#send(request, headers)));
    return text === '' ? undefined : parseJson(text, this.options.apiUrl);
  }

  /** A good answer as a stream that has no end of its own; abort the signal to end it. Not repeated. */
  async stream(request: HttpRequest & { signal: AbortSignal }): Promise<http.IncomingMessage> {
    return this.#authorized(request, async (headers) => {
      const response = await this.#open(request, headers);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return response;
      throw errorOf({ status, text: await textOf(response), headers: response.headers }, request);
    });
  }

  /** Ends idle connections; open requests end by themselves. */
  close(): void {
    this.#agent.destroy();
  }

  async #withRetries(request: HttpRequest, send: () => Promise<Answer>): Promise<Answer> {
    const deadlineMs = Date.now() + this.options.retryForMs;
    const mayRepeat = request.mayRepeat ?? request.method !== 'POST';
    for (let backoffMs = FIRST_BACKOFF_MS; ; backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)) {
      try {
        return await send();
      } catch (error) {
        request.signal?.throwIfAborted();
        const pauseMs = pauseBeforeRetry(error, backoffMs);
        // A 429 was not acted upon, so anything may be sent again.
        const isSafe = mayRepeat || (error instanceof ApiError && error.status === 429);
        if (pauseMs === undefined || !isSafe || Date.now() + pauseMs > deadlineMs) throw error;
        await sleep(pauseMs, undefined, { signal: request.signal });
      }
    }
  }

  async #authorized<T>(request: HttpRequest, send: (headers: Record<string, string>) => Promise<T>): Promise<T> {
    const token = await this.#accessToken(request.signal);
    try {
      return await send({ ...request.headers, authorization: `Bearer ${token}` });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      // Expired or revoked: a new one, once. Another request may have asked for it already.
      if (this.#token && (await this.#token.value.catch(() => undefined)) === token) this.#token = undefined;
      return send({ ...request.headers, authorization: `Bearer ${await this.#accessToken(request.signal)}` });
    }
  }

  async #accessToken(signal: AbortSignal | undefined): Promise<string> {
    if (this.#token && Date.now() < this.#token.untilMs) return this.#token.value;
    const asked = this.#askForToken(signal);
    // Whoever needs a token meanwhile waits for this one; a failed one is forgotten.
    const entry = { value: asked.then(({ value }) => value), untilMs: Infinity };
    entry.value.catch(() => undefined); // told below, also when nobody else waits
    this.#token = entry;
    try {
      entry.untilMs = (await asked).untilMs;
      return await entry.value;
    } catch (error) {
      if (this.#token === entry) this.#token = undefined;
      throw error;
    }
  }

  async #askForToken(signal: AbortSignal | undefined): Promise<{ value: string; untilMs: number }> {
    const { clientId, clientSecret, apiUrl } = this.options;
    const request: HttpRequest = { method: 'POST', path: '/v2/oauth2/token', ...(signal ? { signal } : {}) };
    const { text } = await this.#send(
      request,
      {
        authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE }).toString(),
    );
    const token = parseJson(text, apiUrl) as { access_token: string; expires_in: number };
    return { value: token.access_token, untilMs: Date.now() + Math.max(token.expires_in * 1000 - RENEW_EARLY_MS, 1_000) };
  }

  async #send(request: HttpRequest, headers: Record<string, string>, body?: string): Promise<Answer> {
    const timeout = AbortSignal.timeout(request.timeoutMs ?? this.options.timeoutMs);
    const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout;
    const response = await this.#open({ ...request, signal }, headers, body);
    const answer = { status: response.statusCode ?? 0, headers: response.headers, text: await this.#read(response, request) };
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw errorOf(answer, request);
  }

  async #read(response: http.IncomingMessage, request: HttpRequest): Promise<string> {
    try {
      return await textOf(response);
    } catch (error) {
      throw this.#unreachable(error, request);
    }
  }

  #open(request: HttpRequest, headers: Record<string, string>, form?: string): Promise<http.IncomingMessage> {
    const url = new URL(this.options.apiUrl + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const text = form ?? (request.body === undefined ? undefined : JSON.stringify(request.body));
    const bytes = text === undefined ? undefined : Buffer.from(text);
    const send = url.protocol === 'https:' ? https.request : http.request;
    return new Promise((resolve, reject) => {
      const outgoing = send(url, {
        method: request.method,
        agent: this.#agent,
        headers: {
          accept: 'application/json',
          ...(bytes ? { 'content-type': 'application/json', 'content-length': bytes.length } : {}),
          ...headers,
        },
        ...(request.signal ? { signal: request.signal } : {}),
      });
      outgoing.on('error', (error) => reject(this.#unreachable(error, request)));
      outgoing.on('response', resolve);
      outgoing.end(bytes);
    });
  }

  #unreachable(cause: unknown, { method, path }: HttpRequest): ConnectionError {
    const { message } = ensureError(cause);
    const where = `${this.options.apiUrl} (${method} ${path})`;
    return new ConnectionError(`The service at ${where} does not answer: ${message}. Check the address, and that it runs.`, {
      cause,
    });
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string, apiUrl: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new ConnectionError(`What answers at ${apiUrl} is not this service: its answer is no JSON. Check the address.`, {
      cause: error,
    });
  }
}

/** Milliseconds, or undefined when trying again is pointless. */
function pauseBeforeRetry(error: unknown, backoffMs: number): number | undefined {
  const isTemporary =
    error instanceof ConnectionError || (error instanceof ApiError && (error.status >= 500 || error.status === 429));
  if (!isTemporary) return undefined;
  const asked = error instanceof ApiError ? (error.retryAfterS ?? 0) * 1000 : 0;
  // Clients that were refused together must not come back together.
  return asked + backoffMs * (0.5 + Math.random() / 2);
}

function errorOf({ status, text, headers }: Answer, { method, path }: HttpRequest): ApiError {
  const fields = fieldsOf(text);
  const names = ['message', 'detail', 'reason', 'error_description'];
  const sentence = names.map((name) => fields[name]).find((value): value is string => typeof value === 'string' && value !== '');
  const code = typeof fields.code === 'string' && fields.code in ERROR_CATALOGUE ? (fields.code as ErrorCode) : codeOf(status);
  const requestId = typeof fields.request_id === 'string' ? fields.request_id : undefined;
  const seconds = Number(headers['retry-after']);
  return new ApiError(
    code,
    sentence ?? `The service answered ${method} ${path} with status ${status}: ${ERROR_CATALOGUE[code].meaning}`,
    status,
    requestId,
    headers['retry-after'] !== undefined && seconds >= 0 ? { retryAfterS: seconds } : {},
  );
}

function fieldsOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {}; // not ours: a proxy's page, say
  }
}

function codeOf(status: number): ErrorCode {
  if (status >= 500) return status === 500 ? 'INTERNAL' : 'UNAVAILABLE';
  const known = Object.entries(ERROR_CATALOGUE).find(([, entry]) => entry.status === status);
  return (known?.[0] as ErrorCode | undefined) ?? 'INVALID_REQUEST';
}
