import { spawn } from 'node:child_process';
import { constants } from 'node:os';

import { clientVariables } from '../local/engines/temporal-access';
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

/** Variables by client; the stock clients read theirs in `globus_sdk/config/env_vars.py`, `globus_compute_sdk` and `funcx`. */
const CLIENTS: Record<string, (connection: Connection) => Record<string, string>> = {
  'globus-compute': ({ apiUrl, clientId, clientSecret, caFile, temporalAddress, temporalAccess }) => ({
    FUNCX_API_URL: apiUrl,
    FUNCX_CLIENT_ID: clientId,
    FUNCX_CLIENT_SECRET: clientSecret,
    ...(caFile === null ? {} : { FUNCX_CA: caFile }),
    GLOBUS_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/`,
    GLOBUS_SDK_SERVICE_URL_FLOWS: `${apiUrl}/`,
    // After an error, the Globus CLI creates a Search client, and fails if it has no address for that client.
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${apiUrl}/`,
    GLOBUS_CLI_CLIENT_ID: clientId,
    GLOBUS_CLI_CLIENT_SECRET: clientSecret,
    GLADIER_CLIENT_ID: clientId,
    GLADIER_CLIENT_SECRET: clientSecret,
    GLOBUS_COMPUTE_CLIENT_ID: clientId,
    GLOBUS_COMPUTE_CLIENT_SECRET: clientSecret,
    ...proxyOf(apiUrl),
    ...(temporalAddress === undefined ? {} : { TEMPORAL_ADDRESS: temporalAddress }),
    ...(temporalAccess ? clientVariables(temporalAccess) : {}),
  }),
  'funcx-1.0': ({ apiUrl, clientId, clientSecret }) => ({
    FUNCX_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/`,
    // Otherwise, `search_function` sends its token to somebody else's service.
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${apiUrl}/`,
    FUNCX_SDK_CLIENT_ID: clientId,
    FUNCX_SDK_CLIENT_SECRET: clientSecret,
  }),
};

/**
 * The Globus Compute SDK always sends its requests to http://localhost:5000. On another port, the API also works as an HTTP proxy
 * for that address; without the proxy, the SDK would silently reach another system.
 */
function proxyOf(apiUrl: string): Record<string, string> {
  const { port, protocol } = new URL(apiUrl);
  if (protocol !== 'http:' || port === String(DEFAULT_PORTS.api)) return {};
  const except = process.env.no_proxy ?? process.env.NO_PROXY ?? '';
  const kept = except
    .split(',')
    .filter((host) => !/^\s*(\*|\.?localhost|127\.0\.0\.1)(:\d+)?\s*$/.test(host))
    .join(',');
  const exceptions: Record<string, string> = kept === except ? {} : { NO_PROXY: kept, no_proxy: kept };
  // Programs differ in which spelling they read.
  return { HTTP_PROXY: apiUrl, http_proxy: apiUrl, ...exceptions };
}

export function addEnvCommands(program: Command): void {
  const clients = `for which client: ${Object.keys(CLIENTS).join(' or ')}`;
  program
    .command('env')
    .description('print the variables that point clients at this system: eval "$(funcx env)"')
    .option('--client <name>', clients, 'globus-compute')
    .option('--data-dir <dir>', 'the data folder of the system', DEFAULT_UP.dataDir)
    .option('--json', 'print one JSON object')
    .action((options: EnvOptions) => printEnvironment(options));
  program
    .command('exec')
    .description('run a command with the variables that "env" prints; ends with its exit code')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('--client <name>', clients, 'globus-compute')
    .option('--data-dir <dir>', 'the data folder of the system', DEFAULT_UP.dataDir)
    .passThroughOptions()
    .addHelpText('after', '\nExample:\n  funcx exec -- python3 my-script.py')
    .action(([command = '', ...args]: string[], options: EnvOptions) => execute(command, args, options));
}

function readVariables({ dataDir, client }: EnvOptions): { variables: Record<string, string>; connection: Connection } {
  const variablesOf = CLIENTS[client];
  if (variablesOf === undefined)
    throw new UserError(`"${client}" is not a client; there are: ${Object.keys(CLIENTS).join(', ')}.`);
  const connection = connectionOfSystem(dataDir);
  return { variables: variablesOf(connection), connection };
}

function printEnvironment(options: EnvOptions): void {
  const { variables, connection } = readVariables(options);
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(variables, null, 2)}\n`);
    return;
  }
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`);
  process.stdout.write(`${lines.join('\n')}\n`);
  const { apiUrl, wsUrl } = connection;
  if (options.client === 'funcx-1.0' && new URL(apiUrl).port !== String(DEFAULT_PORTS.api)) {
    process.stdout.write(
      `# These clients always use http://localhost:${DEFAULT_PORTS.api}; for this system, write ` +
        `FuncXClient(funcx_service_address="${apiUrl}/v2", results_ws_uri="${wsUrl ?? ''}/v2")\n`,
    );
  }
}

/** Exit codes as in a shell: for a command that does not exist, and the base for a command that a signal ended. */
const NOT_FOUND = 127;
const SIGNALLED = 128;
const FORWARDED = ['SIGTERM', 'SIGHUP'] as const;

async function execute(command: string, args: readonly string[], options: EnvOptions): Promise<void> {
  const { variables } = readVariables(options);
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...variables } });
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  // Ctrl-C reaches every process of the terminal, so the command gets it as well. This process waits until the command ends.
  const ignore = (): void => undefined;
  for (const signal of FORWARDED) process.on(signal, forward);
  process.on('SIGINT', ignore);
  await new Promise<void>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      process.stderr.write(error.code === 'ENOENT' ? `There is no command ${command}.\n` : `${command}: ${error.message}\n`);
      process.exitCode = NOT_FOUND;
      resolve();
    });
    child.once('exit', (code, signal) => {
      process.exitCode = code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal]);
      resolve();
    });
  });
  for (const signal of FORWARDED) process.off(signal, forward);
  process.off('SIGINT', ignore);
}

const quote = (value: string): string => `'${value.replaceAll("'", `'\\''`)}'`;
