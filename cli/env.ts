import { DEFAULT_UP } from '../local/options';
import { DEFAULT_PORTS } from '../local/ports';
import { UserError } from '../local/user-error';

import { connectionOfSystem } from './connection';

import type { Command } from 'commander';

import type { Connection } from './connection';

interface EnvOptions {
  dataDir: string;
  client: string;
  json?: boolean;
}

/** Variables by client; the stock ones are listed in protocol/globus-compute-4 section 2 and protocol/funcx-1.0. */
const CLIENTS: Record<string, (connection: Connection) => Record<string, string>> = {
  'globus-compute': ({ apiUrl, clientId, clientSecret, caFile }) => ({
    FUNCX_API_URL: apiUrl,
    FUNCX_CLIENT_ID: clientId,
    FUNCX_CLIENT_SECRET: clientSecret,
    ...(caFile === null ? {} : { FUNCX_CA: caFile }),
    GLOBUS_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/`,
    GLOBUS_COMPUTE_CLIENT_ID: clientId,
    GLOBUS_COMPUTE_CLIENT_SECRET: clientSecret,
  }),
  'funcx-1.0': ({ apiUrl, clientId, clientSecret }) => ({
    FUNCX_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/`,
    FUNCX_SDK_CLIENT_ID: clientId,
    FUNCX_SDK_CLIENT_SECRET: clientSecret,
  }),
};

export function addEnvCommand(program: Command): void {
  program
    .command('env')
    .description('print the variables that point clients at this system: eval "$(funcx env)"')
    .option('--client <name>', `for which client: ${Object.keys(CLIENTS).join(' or ')}`, 'globus-compute')
    .option('--data-dir <dir>', 'the data folder of the system', DEFAULT_UP.dataDir)
    .option('--json', 'print one JSON object')
    .action((options: EnvOptions) => printEnvironment(options));
}

function printEnvironment({ dataDir, client, json }: EnvOptions): void {
  const variablesOf = CLIENTS[client];
  if (variablesOf === undefined)
    throw new UserError(`"${client}" is not a client; there are: ${Object.keys(CLIENTS).join(', ')}.`);
  const connection = connectionOfSystem(dataDir);
  const variables = variablesOf(connection);
  if (json === true) {
    process.stdout.write(`${JSON.stringify(variables, null, 2)}\n`);
    return;
  }
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`);
  process.stdout.write(`${lines.join('\n')}\n`);
  if (new URL(connection.apiUrl).port !== String(DEFAULT_PORTS.api)) {
    const note = `# The stock clients always ask http://localhost:${DEFAULT_PORTS.api}; for this system also set HTTP_PROXY=${connection.apiUrl}`;
    process.stdout.write(`${note}\n`);
  }
}

const quote = (value: string): string => `'${value.replaceAll("'", `'\\''`)}'`;
