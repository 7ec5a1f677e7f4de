import { Client } from '../../sdk/index';
import { admin, state, type Credentials } from './system';

/** A client of the running system, as the administrator unless told otherwise. */
export function sdkClient({ client_id, client_secret }: Credentials = admin()): Client {
  const { api_url: apiUrl, ca_file: caFile } = state();
  return new Client({ apiUrl, clientId: client_id, clientSecret: client_secret, ...(caFile === null ? {} : { ca: caFile }) });
}
