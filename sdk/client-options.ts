import { readFileSync } from 'node:fs';

import { TerminalError } from '../contracts/errors';

/** How to reach a service. Everything that is not given is read from the environment. */
export interface ClientOptions {
  /** Address of the service, such as `http://localhost:5000`. Default: `FUNCX_API_URL`. */
  apiUrl?: string;
  /** Default: `FUNCX_CLIENT_ID`. */
  clientId?: string;
  /** Default: `FUNCX_CLIENT_SECRET`. */
  clientSecret?: string;
  /** PEM text, or a file of it, of a private certificate authority. Default: the file `FUNCX_CA`, if set. */
  ca?: string;
  /** How long a request that may be repeated is tried again, in milliseconds. Default: 60,000. */
  retryForMs?: number;
  /** How long one request may take, in milliseconds. Default: 60,000. */
  timeoutMs?: number;
}

export type ResolvedOptions = Required<Omit<ClientOptions, 'ca'>> & { ca: string | undefined };

const DEFAULT_RETRY_MS = 60_000;
const DEFAULT_TIMEOUT_MS = 60_000;

/** Throws INVALID_REQUEST with the name of what is missing. */
export function resolveOptions(options: ClientOptions, env: NodeJS.ProcessEnv = process.env): ResolvedOptions {
  const apiUrl = needed('FUNCX_API_URL', 'apiUrl', options.apiUrl, env).replace(/\/+$/, '');
  if (!/^https?:\/\/[^/]+/.test(apiUrl) || !URL.canParse(apiUrl)) {
    throw new TerminalError('INVALID_REQUEST', `"${apiUrl}" is no address of a service; it begins with http:// or https://.`);
  }
  return {
    apiUrl,
    clientId: needed('FUNCX_CLIENT_ID', 'clientId', options.clientId, env),
    clientSecret: needed('FUNCX_CLIENT_SECRET', 'clientSecret', options.clientSecret, env),
    ca: readAuthority(options.ca ?? (env.FUNCX_CA || undefined)),
    retryForMs: options.retryForMs ?? DEFAULT_RETRY_MS,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
  };
}

function needed(variable: string, option: string, given: string | undefined, env: NodeJS.ProcessEnv): string {
  const value = given ?? env[variable];
  if (value) return value;
  throw new TerminalError('INVALID_REQUEST', `Where to connect is not known: give the option "${option}" or set ${variable}.`);
}

function readAuthority(given: string | undefined): string | undefined {
  if (given === undefined || given.includes('-----BEGIN')) return given;
  try {
    return readFileSync(given, 'utf8');
  } catch (error) {
    throw new TerminalError('INVALID_REQUEST', `The certificate authority ${given} can not be read; check FUNCX_CA.`, {
      cause: error,
    });
  }
}
