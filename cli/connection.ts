import { readJson } from '../local/files';
import { layoutOf } from '../local/layout';
import { readState } from '../local/state';
import { UserError } from '../local/user-error';

import { ApiClient } from './http';

import type { Credentials } from './http';

export interface Connection extends Credentials {
  /** PEM file of the private authority that signed the broker's certificate. */
  caFile: string | null;
}

/** Reads how to reach the system in this data folder, as its administrator. */
export function connectionOfSystem(dataDir: string): Connection {
  const state = readState(layoutOf(dataDir));
  const identity = state === undefined ? undefined : (readJson(state.identity_file) as Identity | undefined);
  if (state === undefined)
    throw new UserError(`There is no system in ${layoutOf(dataDir).dataDir}; start one with "npm run up".`);
  if (identity === undefined)
    throw new UserError(`${state.identity_file} cannot be read; ask its owner for an identity of your own.`);
  return { apiUrl: state.api_url, clientId: identity.client_id, clientSecret: identity.client_secret, caFile: state.ca_file };
}

interface Identity {
  client_id: string;
  client_secret: string;
}

/** The service that FUNCX_API_URL, FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET name, else the system in the data folder. */
export function connect(dataDir: string): ApiClient {
  const { FUNCX_API_URL: apiUrl, FUNCX_CLIENT_ID: clientId, FUNCX_CLIENT_SECRET: clientSecret } = process.env;
  if (apiUrl && clientId && clientSecret) return new ApiClient({ apiUrl: apiUrl.replace(/\/$/, ''), clientId, clientSecret });
  return new ApiClient(connectionOfSystem(dataDir));
}
