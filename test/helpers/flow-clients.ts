import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { ensureVenv } from './python-venv';
import { StockClient } from './stock-globus';
import { state } from './system';

/** The released clients of Globus Flows, unmodified, pointed at the system of the tests by their environment alone. */

export const FLOW_REQUIREMENTS = [
  'globus-sdk==4.9.0',
  'globus-cli==3.44.0',
  'gladier==0.11.0',
  'gladier-tools==0.5.4',
  'globus-compute-sdk==4.19.0',
  'texttable<1.7.2',
];
export const flowsVenv = (): Promise<string> => ensureVenv('flows-4.9.0', FLOW_REQUIREMENTS);

/** What `funcx env` prints for them. */
export function flowsEnv({ client_id: id, client_secret: secret }: StockClient['credentials'], apiUrl = state().api_url) {
  return {
    GLOBUS_SDK_SERVICE_URL_FLOWS: `${apiUrl}/`,
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${apiUrl}/`,
    GLOBUS_CLI_CLIENT_ID: id,
    GLOBUS_CLI_CLIENT_SECRET: secret,
    GLADIER_CLIENT_ID: id,
    GLADIER_CLIENT_SECRET: secret,
  };
}

export class FlowsUser extends StockClient {
  override get env(): Record<string, string> {
    // The CLI and Gladier keep tokens and ids of flows below the home folder.
    const home = join(this.dir, 'home');
    mkdirSync(home, { recursive: true });
    return { ...super.env, ...flowsEnv(this.credentials), HOME: home };
  }

  /** The `globus` command; its JSON. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  async globus(...args: string[]): Promise<any> {
    const { status, stdout, stderr } = await this.run('globus', [...args, '-F', 'json']);
    if (status !== 0) throw new Error(`globus ${args.join(' ')} ended with ${status}: ${stderr}${stdout}`);
    return JSON.parse(stdout);
  }
}
