import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

import { ensureError, ERROR_CATALOGUE, type ErrorCode } from '../contracts/errors';
import { COMPUTE_SCOPE } from '../contracts/scopes';

import { ApiError, ConnectionError } from './errors';
import type { ResolvedOptions } from './options';

/** Requests to the service. Not by `fetch`, which needs another package to trust a private certificate authority. */

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  path: string;
  query?: Record<string, string | number | undefined>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent verbatim in place of `body`; set the content type in `headers`. */
  text?: string;
  headers?: Record<string, string>;
  /** Bearer token for this request, in place of the client's own access token. */
  token?: string;
  /** True if sending the request twice is harmless. Default: true for every method except POST. */
  mayRepeat?: boolean;
  /** Default: the client's timeout. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

interface Response {
  status: number;
  text: string;
  headers: http.IncomingHttpHeaders;
}

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

  /** Returns the parsed JSON of the response; throws {@link ApiError} or {@link ConnectionError}. */
  async request(request: HttpRequest): Promise<unknown> {
    const text = await this.requestText(request);
    return text === '' ? undefined : parseJson(text, this.options.apiUrl);
  }

  /** Returns the body of the response; throws {@link ApiError} or {@link ConnectionError}. */
  async requestText(request: HttpRequest): Promise<string> {
    const { text } = await this.#withRetries(request, () => this.#authorized(request, (headers) => this.#send(request, headers)));
    return text;
  }

  /** Opens a response that does not end. Abort the signal to close it. A failed request is not retried. */
  async stream(request: HttpRequest & { signal: AbortSignal }): Promise<http.IncomingMessage> {
    return this.#authorized(request, async (headers) => {
      const response = await this.#open(request, headers);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return response;
      throw errorOf({ status, text: await textOf(response), headers: response.headers }, request);
    });
  }

  /** Closes the connections, which aborts open requests. */
  close(): void {
    this.#agent.destroy();
  }

  async #withRetries(request: HttpRequest, send: () => Promise<Response>): Promise<Response> {
    const deadlineMs = Date.now() + this.options.retryForMs;
    const mayRepeat = request.mayRepeat ?? request.method !== 'POST';
    for (let backoffMs = FIRST_BACKOFF_MS; ; backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)) {
      try {
        return await send();
      } catch (error) {
        request.signal?.throwIfAborted();
        const pauseMs = pauseBeforeRetry(error, backoffMs);
        // The service does not process a request that it answers with 429, so any method may be sent again.
        const isSafe = mayRepeat || (error instanceof ApiError && error.status === 429);
        if (pauseMs === undefined || !isSafe || Date.now() + pauseMs > deadlineMs) throw error;
        await sleep(pauseMs, undefined, { signal: request.signal });
      }
    }
  }

  async #authorized<T>(request: HttpRequest, send: (headers: Record<string, string>) => Promise<T>): Promise<T> {
    const withToken = (token: string): Promise<T> => send({ ...request.headers, authorization: `Bearer ${token}` });
    if (request.token !== undefined) return withToken(request.token);
    const token = await this.#accessToken(request.signal);
    try {
      return await withToken(token);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      // The token expired or was revoked: get a new token, once. Another request may already have replaced it.
      if (this.#token && (await this.#token.value.catch(() => undefined)) === token) this.#token = undefined;
      return withToken(await this.#accessToken(request.signal));
    }
  }

  async #accessToken(signal: AbortSignal | undefined): Promise<string> {
    if (this.#token && Date.now() < this.#token.untilMs) return this.#token.value;
    const fetched = this.#fetchToken(signal);
    // Concurrent requests share one token request. A failed token request is forgotten.
    const entry = { value: fetched.then(({ value }) => value), untilMs: Infinity };
    entry.value.catch(() => undefined); // thrown below
    this.#token = entry;
    try {
      entry.untilMs = (await fetched).untilMs;
      return await entry.value;
    } catch (error) {
      if (this.#token === entry) this.#token = undefined;
      throw error;
    }
  }

  async #fetchToken(signal: AbortSignal | undefined): Promise<{ value: string; untilMs: number }> {
    const { clientId, clientSecret, token: given, apiUrl, scope = COMPUTE_SCOPE } = this.options;
    // A given token is never cached: a function that returns tokens keeps them valid itself.
    if (given !== undefined) return { value: typeof given === 'string' ? given : await given(), untilMs: Date.now() };
    const { text } = await this.#send(
      {
        method: 'POST',
        path: '/v2/oauth2/token',
        text: new URLSearchParams({ grant_type: 'client_credentials', scope }).toString(),
        signal,
      },
      {
        authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
    );
    const token = parseJson(text, apiUrl) as { access_token: string; expires_in: number };
    return { value: token.access_token, untilMs: Date.now() + Math.max(token.expires_in * 1000 - RENEW_EARLY_MS, 1_000) };
  }

  async #send(request: HttpRequest, headers: Record<string, string>): Promise<Response> {
    const timeout = AbortSignal.timeout(request.timeoutMs ?? this.options.timeoutMs);
    const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout;
    const message = await this.#open({ ...request, signal }, headers);
    const response = { status: message.statusCode ?? 0, headers: message.headers, text: await this.#read(message, request) };
    if (response.status >= 200 && response.status < 300) return response;
    throw errorOf(response, request);
  }

  async #read(response: http.IncomingMessage, request: HttpRequest): Promise<string> {
    try {
      return await textOf(response);
    } catch (error) {
      throw this.#unreachable(error, request);
    }
  }

  #open(request: HttpRequest, headers: Record<string, string>): Promise<http.IncomingMessage> {
    const url = new URL(this.options.apiUrl + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const text = request.text ?? (request.body === undefined ? undefined : JSON.stringify(request.body));
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
        signal: request.signal,
      });
      outgoing.on('error', (error) => reject(this.#unreachable(error, request)));
      outgoing.on('response', resolve);
      outgoing.end(bytes);
    });
  }

  #unreachable(cause: unknown, { method, path }: HttpRequest): ConnectionError {
    const { message } = ensureError(cause);
    const where = `${this.options.apiUrl} (${method} ${path})`;
    return new ConnectionError(
      `The service at ${where} does not answer: ${message}. Check the address and that the service is running.`,
      { cause },
    );
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
    throw new ConnectionError(
      `The server at ${apiUrl} is not this service: its response is not JSON. Check the address (FUNCX_API_URL).`,
      { cause: error },
    );
  }
}

/** Returns milliseconds, or undefined if a retry cannot help. */
function pauseBeforeRetry(error: unknown, backoffMs: number): number | undefined {
  const isTemporary = error instanceof ConnectionError || (error instanceof ApiError && error.isTemporary);
  if (!isTemporary) return undefined;
  const retryAfterMs = error instanceof ApiError ? (error.retryAfterS ?? 0) * 1000 : 0;
  // Jitter: clients that were refused together must not retry together.
  return retryAfterMs + backoffMs * (0.5 + Math.random() / 2);
}

function errorOf({ status, text, headers }: Response, { method, path }: HttpRequest): ApiError {
  const fields = fieldsOf(text);
  const names = ['message', 'detail', 'reason', 'error_description', 'title'];
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
    if (typeof value !== 'object' || value === null) return {};
    const { error } = value as { error?: unknown };
    // The routes for flows return errors in the format of Globus Flows.
    return typeof error === 'object' && error !== null ? flowsFieldsOf(error) : (value as Record<string, unknown>);
  } catch {
    return {}; // not from the service: the page of a proxy, for example
  }
}

function flowsFieldsOf(error: { message?: unknown; detail?: unknown }): Record<string, unknown> {
  if (!Array.isArray(error.detail)) return { message: error.detail };
  const lines = (error.detail as { loc: unknown[]; msg: string }[]).map(({ loc, msg }) => `  ${loc.join('.')}: ${msg}`);
  return { message: [error.message, ...lines].join('\n') };
}

function codeOf(status: number): ErrorCode {
  if (status >= 500) return status === 500 ? 'INTERNAL' : 'UNAVAILABLE';
  const known = Object.entries(ERROR_CATALOGUE).find(([, entry]) => entry.status === status);
  return (known?.[0] as ErrorCode | undefined) ?? 'INVALID_REQUEST';
}
