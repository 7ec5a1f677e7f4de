import { existsSync } from 'node:fs';

import { readJson } from '../local/machine/files';
import { layoutOf } from '../local/machine/layout';
import { readState } from '../local/setup/state';
import { UserError } from '../local/machine/user-error';
import { Client } from '../sdk/index';

import { readLogin, tokenOfLogin } from './saved-login';

import type { ClientOptions } from '../client';
import type { TemporalAccess } from '../local/engines/temporal-access';

/** How to reach a service, and as whom. */
export interface Connection {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  /** In place of the two above, which are empty then. */
  token?: string | (() => Promise<string>);
  /** PEM file of the private authority that signed the service's or the broker's certificate. */
  caFile: string | null;
  /** Of the results socket, where it is known. */
  wsUrl?: string;
  /** Of the Temporal server, where it is known. */
  temporalAddress?: string;
  /** What that server asks for on a shared host. */
  temporalAccess?: TemporalAccess | null;
}

interface Identity {
  client_id: string;
  client_secret: string;
}

/** A person waits: the service may be restarted meanwhile, but is not waited for any longer. */
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
 * The service that FUNCX_API_URL names, with FUNCX_TOKEN, or FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET, else the one that
 * `funcx login` logged in to, else the system in the data folder.
 */
export function findConnection(dataDir: string): Connection {
  const { FUNCX_API_URL: apiUrl, FUNCX_CLIENT_ID: clientId, FUNCX_CLIENT_SECRET: clientSecret, FUNCX_CA: ca } = process.env;
  const { FUNCX_TOKEN: token } = process.env;
  const caFile = ca || null;
  if (apiUrl && token) return { apiUrl, clientId: '', clientSecret: '', token, caFile };
  if (apiUrl && clientId && clientSecret) return { apiUrl, clientId, clientSecret, caFile };
  const login = readLogin();
  if (login && (!apiUrl || login.api_url === apiUrl.replace(/\/+$/, '')))
    return { apiUrl: login.api_url, clientId: '', clientSecret: '', token: tokenOfLogin, caFile: caFile ?? login.ca_file };
  const system = connectionOfSystem(dataDir);
  return token ? { ...system, clientId: '', clientSecret: '', token } : system;
}

/** Options for a client of the service that a command talks to. */
export function clientOptions(dataDir: string): ClientOptions {
  const { caFile, apiUrl, clientId, clientSecret, token } = findConnection(dataDir);
  const ca = caFile !== null && existsSync(caFile) ? { ca: caFile } : {};
  return { apiUrl, ...(token === undefined ? { clientId, clientSecret } : { token }), ...ca, retryForMs: RETRY_MS };
}

/** Gives a client to a command and closes it afterwards. */
export async function withClient<T>({ dataDir }: { dataDir: string }, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(clientOptions(dataDir));
  try {
    return await use(client);
  } finally {
    client.close();
  }
}
