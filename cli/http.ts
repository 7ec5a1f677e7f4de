import { messageOf, UserError } from '../local/user-error';

/** All rights of the compute service; the scope that Globus Compute's own clients ask for. */
const SCOPE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
const REQUEST_MS = 60_000;

export interface Credentials {
  /** Without a slash at its end. */
  apiUrl: string;
  clientId: string;
  clientSecret: string;
}

/** What the service answered in place of what was asked for. */
export class ApiError extends UserError {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** The few requests of the command line, with a token got at the first of them. */
export class ApiClient {
  readonly #credentials: Credentials;
  #token: Promise<string> | undefined;

  constructor(credentials: Credentials) {
    this.#credentials = credentials;
  }

  async get(path: string, signal?: AbortSignal): Promise<unknown> {
    return this.#request('GET', path, undefined, signal);
  }

  async post(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    return this.#request('POST', path, body, signal);
  }

  async #request(method: string, path: string, body: unknown, signal: AbortSignal | undefined): Promise<unknown> {
    this.#token ??= this.#fetchToken(signal);
    const headers: Record<string, string> = { authorization: `Bearer ${await this.#token}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const content = body === undefined ? undefined : JSON.stringify(body);
    return this.#send(path, { method, headers, body: content }, signal);
  }

  async #fetchToken(signal: AbortSignal | undefined): Promise<string> {
    const { clientId, clientSecret } = this.#credentials;
    const form = new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE });
    const authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`;
    const answer = await this.#send('/v2/oauth2/token', { method: 'POST', headers: { authorization }, body: form }, signal);
    return (answer as { access_token: string }).access_token;
  }

  async #send(path: string, init: RequestInit, signal: AbortSignal | undefined): Promise<unknown> {
    const url = this.#credentials.apiUrl + path;
    const timeout = AbortSignal.timeout(REQUEST_MS);
    let answer: Response;
    let text: string;
    try {
      answer = await fetch(url, { ...init, signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]) });
      text = await answer.text();
    } catch (error) {
      signal?.throwIfAborted();
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      throw new UserError(
        `The service at ${this.#credentials.apiUrl} does not answer (${messageOf(cause)}); is it running ("funcx status")?`,
      );
    }
    const document = parse(text);
    if (!answer.ok) throw new ApiError(answer.status, refusalOf(document) ?? `The service answered ${answer.status} to ${path}.`);
    return document;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** The sentence of an error body: ours is `detail`, Globus's is `reason`, OAuth's is `error_description`. */
function refusalOf(document: unknown): string | undefined {
  if (typeof document !== 'object' || document === null) return undefined;
  const fields = document as Record<string, unknown>;
  const names = ['detail', 'reason', 'message', 'error_description', 'error'];
  return names.map((name) => fields[name]).find((value): value is string => typeof value === 'string' && value !== '');
}
