import { readFileSync } from 'node:fs';

import { TerminalError } from '../contracts/errors';

/** How to reach a service. Missing options come from the environment. */
export interface ClientOptions {
  /** Address of the service, such as `http://localhost:5000`. Default: `FUNCX_API_URL`. */
  apiUrl?: string;
  /** Default: `FUNCX_CLIENT_ID`. */
  clientId?: string;
  /** Default: `FUNCX_CLIENT_SECRET`. */
  clientSecret?: string;
  /**
   * An access token in place of `clientId` and `clientSecret`: an API token, a token of the service's identity provider, or a
   * function that returns a valid token. Default: `FUNCX_TOKEN`, unless `clientId` is given.
   */
  token?: string | (() => Promise<string>);
  /** A private certificate authority: PEM text, or the path of a PEM file. Default: the file `FUNCX_CA`, if set. */
  ca?: string;
  /** Integers beyond 2^53 in results: `refuse` (default) throws an error that names the integer, `bigint` returns a bigint. */
  integers?: 'refuse' | 'bigint';
  /** How long to retry a request that is safe to retry, in milliseconds. Default: 60,000. */
  retryForMs?: number;
  /** Timeout of one request, in milliseconds. Default: 60,000. */
  timeoutMs?: number;
  /** Scope of the access token. Default: full access to the compute service. */
  scope?: string;
}

export type ResolvedOptions = Required<Omit<ClientOptions, 'ca' | 'scope' | 'token'>> &
  Pick<ClientOptions, 'scope' | 'token'> & { ca: string | undefined };

const DEFAULT_RETRY_MS = 60_000;
const DEFAULT_TIMEOUT_MS = 60_000;

/** Throws INVALID_REQUEST with the name of the missing or malformed option. */
export function resolveOptions(options: ClientOptions, env: NodeJS.ProcessEnv = process.env): ResolvedOptions {
  const apiUrl = required('FUNCX_API_URL', 'apiUrl', options.apiUrl, env).replace(/\/+$/, '');
  if (!/^https?:\/\/[^/]+/.test(apiUrl) || !URL.canParse(apiUrl)) {
    throw new TerminalError(
      'INVALID_REQUEST',
      `"${apiUrl}" is not the address of a service. An address starts with http:// or https://.`,
    );
  }
  const token = options.token ?? (options.clientId === undefined ? env.FUNCX_TOKEN || undefined : undefined);
  const credentials =
    token === undefined
      ? {
          clientId: required('FUNCX_CLIENT_ID', 'clientId', options.clientId, env),
          clientSecret: required('FUNCX_CLIENT_SECRET', 'clientSecret', options.clientSecret, env),
        }
      : { clientId: '', clientSecret: '', token };
  return {
    apiUrl,
    ...credentials,
    ca: readAuthority(options.ca ?? (env.FUNCX_CA || undefined)),
    integers: options.integers ?? 'refuse',
    retryForMs: options.retryForMs ?? DEFAULT_RETRY_MS,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    scope: options.scope,
  };
}

function required(variable: string, option: string, given: string | undefined, env: NodeJS.ProcessEnv): string {
  const value = given ?? env[variable];
  if (value) return value;
  throw new TerminalError(
    'INVALID_REQUEST',
    `The client is not configured: give the option "${option}" or set ${variable} ("funcx env" prints it).`,
  );
}

function readAuthority(given: string | undefined): string | undefined {
  if (given === undefined || given.includes('-----BEGIN')) return given;
  try {
    return readFileSync(given, 'utf8');
  } catch (error) {
    throw new TerminalError('INVALID_REQUEST', `Cannot read the certificate authority ${given}. Check FUNCX_CA.`, {
      cause: error,
    });
  }
}
