import { existsSync } from 'node:fs';

import { readJson } from '../local/machine/files';
import { layoutOf } from '../local/machine/layout';
import { readState } from '../local/setup/state';
import { UserError } from '../local/machine/user-error';
import { Client } from '../sdk/index';

import { readLogin, tokenOfLogin } from './saved-login';

import type { ClientOptions } from '../client';
import type { TemporalAccess } from '../local/engines/temporal-access';

export interface Connection {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  /** Used in place of `clientId` and `clientSecret`, which are then empty. */
  token?: string | (() => Promise<string>);
  /** PEM file of the private authority that signed the service's or the broker's certificate. */
  caFile: string | null;
  wsUrl?: string;
  temporalAddress?: string;
  /** How clients log in to that Temporal server on a shared host. */
  temporalAccess?: TemporalAccess | null;
}

interface Identity {
  client_id: string;
  client_secret: string;
}

/** How long a command retries. The service may be restarting meanwhile, but a person should not wait longer. */
export const RETRY_MS = 5_000;

/** Reads how to reach the system in this data folder, as its administrator. */
export function connectionOfSystem(dataDir: string): Connection {
  const state = readState(layoutOf(dataDir));
  const identity = state === undefined ? undefined : (readJson(state.identity_file) as Identity | undefined);
  if (state === undefined)
    throw new UserError(`There is no system in ${layoutOf(dataDir).dataDir}; start one with "npm run up".`);
  if (identity === undefined)
    throw new UserError(`${state.identity_file} cannot be read; ask its owner for an identity of your own.`);
  const { api_url: apiUrl, ws_url: wsUrl, temporal_address: temporalAddress, ca_file: caFile } = state;
  const { client_id: clientId, client_secret: clientSecret } = identity;
  const { temporal_access: temporalAccess } = state;
  return { apiUrl, wsUrl, temporalAddress, temporalAccess, clientId, clientSecret, caFile };
}

/**
 * Finds the service that FUNCX_API_URL names, with FUNCX_TOKEN, or FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET. Otherwise the service
 * of `funcx login`, otherwise the system in the data folder: as its administrator, or with FUNCX_TOKEN.
 */
export function findConnection(dataDir: string): Connection {
  const { FUNCX_API_URL: apiUrl, FUNCX_CLIENT_ID: clientId, FUNCX_CLIENT_SECRET: clientSecret, FUNCX_CA: ca } = process.env;
  const { FUNCX_TOKEN: token } = process.env;
  const caFile = ca || null;
  if (apiUrl && token) return { apiUrl, clientId: '', clientSecret: '', token, caFile };
  if (apiUrl && clientId && clientSecret) return { apiUrl, clientId, clientSecret, caFile };
  const isNamed = (url: string): boolean => !apiUrl || url === apiUrl.replace(/\/+$/, '');
  const login = readLogin();
  if (login && isNamed(login.api_url)) {
    const bearer = token || tokenOfLogin;
    return { apiUrl: login.api_url, clientId: '', clientSecret: '', token: bearer, caFile: caFile ?? login.ca_file };
  }
  const system = isNamed(readState(layoutOf(dataDir))?.api_url ?? '') ? connectionOfSystem(dataDir) : undefined;
  // Another service than the named one must not get the command.
  if (!system)
    throw new UserError(
      `There are no credentials for ${apiUrl} (FUNCX_API_URL): set FUNCX_TOKEN, or FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET, or run "funcx login".`,
    );
  return token ? { ...system, clientId: '', clientSecret: '', token } : system;
}

export function clientOptions(dataDir: string): ClientOptions {
  const { caFile, apiUrl, clientId, clientSecret, token } = findConnection(dataDir);
  const ca = caFile !== null && existsSync(caFile) ? { ca: caFile } : {};
  return { apiUrl, ...(token === undefined ? { clientId, clientSecret } : { token }), ...ca, retryForMs: RETRY_MS };
}

export async function withClient<T>({ dataDir }: { dataDir: string }, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(clientOptions(dataDir));
  try {
    return await use(client);
  } finally {
    client.close();
  }
}
