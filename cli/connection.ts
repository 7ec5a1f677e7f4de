import { existsSync } from 'node:fs';

import { readJson } from '../local/machine/files';
import { layoutOf } from '../local/machine/layout';
import { readState } from '../local/setup/state';
import { UserError } from '../local/machine/user-error';
import { Client } from '../sdk';

/** How to reach a service, and as whom. */
export interface Connection {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  /** PEM file of the private authority that signed the service's or the broker's certificate. */
  caFile: string | null;
  /** Of the results socket, where it is known. */
  wsUrl?: string;
  /** Of the Temporal server, where it is known. */
  temporalAddress?: string;
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
  return { apiUrl, wsUrl, temporalAddress, clientId, clientSecret, caFile };
}

/** The service that FUNCX_API_URL, FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET name, else the system in the data folder. */
export function findConnection(dataDir: string): Connection {
  const { FUNCX_API_URL: apiUrl, FUNCX_CLIENT_ID: clientId, FUNCX_CLIENT_SECRET: clientSecret, FUNCX_CA: caFile } = process.env;
  if (apiUrl && clientId && clientSecret) return { apiUrl, clientId, clientSecret, caFile: caFile || null };
  return connectionOfSystem(dataDir);
}

/** Gives a client to a command and closes it afterwards. */
export async function withClient<T>({ dataDir }: { dataDir: string }, use: (client: Client) => Promise<T>): Promise<T> {
  const { caFile, apiUrl, clientId, clientSecret } = findConnection(dataDir);
  const ca = caFile !== null && existsSync(caFile) ? { ca: caFile } : {};
  const client = new Client({ apiUrl, clientId, clientSecret, ...ca, retryForMs: RETRY_MS });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}
