import { DEFAULT_UP } from '../local/setup/options';
import { DEFAULT_PORTS } from '../local/machine/ports';
import { UserError } from '../local/machine/user-error';

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
    GLOBUS_SDK_SERVICE_URL_FLOWS: `${apiUrl}/`,
    // After an error the CLI makes a Search client, and fails where it has no address for that.
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${apiUrl}/`,
    GLOBUS_CLI_CLIENT_ID: clientId,
    GLOBUS_CLI_CLIENT_SECRET: clientSecret,
    GLADIER_CLIENT_ID: clientId,
    GLADIER_CLIENT_SECRET: clientSecret,
    GLOBUS_COMPUTE_CLIENT_ID: clientId,
    GLOBUS_COMPUTE_CLIENT_SECRET: clientSecret,
  }),
  'funcx-1.0': ({ apiUrl, clientId, clientSecret }) => ({
    FUNCX_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/`,
    // Otherwise `search_function` shows its token to a service of somebody else.
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${apiUrl}/`,
    FUNCX_SDK_CLIENT_ID: clientId,
    FUNCX_SDK_CLIENT_SECRET: clientSecret,
  }),
};

/** What else to do where the API has another port than the usual one. */
const ELSEWHERE: Record<string, (connection: Connection) => string> = {
  'globus-compute': ({ apiUrl }) => `for this system also set HTTP_PROXY=${apiUrl}`,
  'funcx-1.0': ({ apiUrl, wsUrl }) =>
    `for this system say FuncXClient(funcx_service_address="${apiUrl}/v2", results_ws_uri="${wsUrl ?? ''}/v2")`,
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
    const usual = `# The stock clients always ask http://localhost:${DEFAULT_PORTS.api};`;
    process.stdout.write(`${usual} ${ELSEWHERE[client]?.(connection)}\n`);
  }
}

const quote = (value: string): string => `'${value.replaceAll("'", `'\\''`)}'`;
