import { InvalidArgumentError } from 'commander';

import { layoutOf } from './machine/layout';
import { addressesOf } from './report';
import { DEFAULT_UP, PORT_OPTIONS } from './setup/options';
import { restart } from './restart';
import { readState } from './setup/state';
import { readStatus } from './status';
import { down, upDetached, upInForeground } from './up';

import type { Command } from 'commander';

import type { PortName } from './machine/ports';
import type { UpOptions } from './setup/options';

const HIGHEST_PORT = 65_535;
const MOST_REPLICAS = 16;
const PORT_NAMES = Object.keys(PORT_OPTIONS) as PortName[];

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > HIGHEST_PORT)
    throw new InvalidArgumentError(`a port is a number from 0 (any) to ${HIGHEST_PORT}.`);
  return port;
}

function parseReplicas(text: string): number {
  const replicas = Number(text);
  if (!/^\d+$/.test(text) || replicas < 1 || replicas > MOST_REPLICAS)
    throw new InvalidArgumentError(`the number of processes is from 1 to ${MOST_REPLICAS}.`);
  return replicas;
}

const keyOf = (flag: string): string => flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

export function addLocalCommands(program: Command): void {
  const dataDir = ['--data-dir <dir>', "folder of the system's data, logs and secrets", DEFAULT_UP.dataDir] as const;
  const up = program
    .command('up')
    .description('start PostgreSQL, Temporal, RabbitMQ, the service and a local endpoint on this machine')
    .option(...dataDir)
    .option('-d, --detach', 'return when it is ready; "down" stops it');
  for (const { flag, what } of Object.values(PORT_OPTIONS)) up.option(`${flag} <port>`, what, parsePort);
  up.option('--private-ports', 'use free ports instead of the default ones')
    .option('--no-endpoint', 'start no local endpoint')
    .option('--endpoint-name <name>', 'name of the local endpoint', DEFAULT_UP.endpointName)
    .option('--public-tutorial', 'let every identity use the local endpoint; its function code runs apart from the service')
    .option('--shared-host', 'protect Temporal and its UI from other users of this machine (Linux)')
    .option('--only <what>', 'start only this: "engines"')
    .option('--api <n>', 'number of API processes; they share its ports', parseReplicas, 1)
    .option('--workers <n>', 'number of workers processes', parseReplicas, 1)
    .action((values: Record<string, unknown>) => runUp(values));
  program
    .command('down')
    .description('stop what "up" started')
    .option(...dataDir)
    .action((values: { dataDir: string }) => down(values.dataDir));
  program
    .command('restart <service>')
    .description('restart "api" or "workers", one process after the other, each when its successor serves')
    .option(...dataDir)
    .action((service: string, values: { dataDir: string }) => {
      if (service !== 'api' && service !== 'workers') throw new InvalidArgumentError('restart accepts "api" or "workers".');
      return restart(values.dataDir, service);
    });
  program
    .command('status')
    .description('show which parts run and are healthy; the exit code is 1 if one is not')
    .option(...dataDir)
    .option(
      '--json',
      'print {"services": [{name, pid, port, healthy, external}]}; a broker that lacks memory or disk space is "blocked": true',
    )
    .action((values: { dataDir: string; json?: boolean }) => runStatus(values.dataDir, values.json === true));
}

async function runUp(values: Record<string, unknown>): Promise<void> {
  if (values.only !== undefined && values.only !== 'engines') throw new InvalidArgumentError('--only accepts "engines".');
  const ports: UpOptions['ports'] = {};
  for (const name of PORT_NAMES) {
    const asked = values[keyOf(PORT_OPTIONS[name]?.flag ?? '')];
    if (typeof asked === 'number') ports[name] = asked;
    else if (values.privatePorts === true) ports[name] = 0;
  }
  const options: UpOptions = {
    dataDir: String(values.dataDir),
    ports,
    endpoint: values.endpoint !== false,
    endpointName: String(values.endpointName),
    publicTutorial: values.publicTutorial === true,
    sharedHost: values.sharedHost === true,
    onlyEngines: values.only === 'engines',
    replicas: { api: Number(values.api), workers: Number(values.workers) },
  };
  if (values.detach === true) await upDetached(options, argumentsOf(options));
  else await upInForeground(options);
}

/** The command line of the detached supervisor. */
function argumentsOf(options: UpOptions): string[] {
  const ports = PORT_NAMES.flatMap((name) => {
    const asked = options.ports[name];
    return asked === undefined ? [] : [PORT_OPTIONS[name]?.flag ?? '', String(asked)];
  });
  return [
    ...['--data-dir', options.dataDir, '--endpoint-name', options.endpointName],
    ...ports,
    ...(options.endpoint ? [] : ['--no-endpoint']),
    ...(options.publicTutorial ? ['--public-tutorial'] : []),
    ...(options.sharedHost ? ['--shared-host'] : []),
    ...(options.onlyEngines ? ['--only', 'engines'] : []),
    ...['--api', String(options.replicas.api), '--workers', String(options.replicas.workers)],
  ];
}

async function runStatus(dataDir: string, asJson: boolean): Promise<void> {
  const { isUp, isSupervised, services } = await readStatus(dataDir);
  if (!isUp) process.exitCode = 1;
  if (asJson) {
    process.stdout.write(`${JSON.stringify({ services }, null, 2)}\n`);
    return;
  }
  if (services.every(({ pid, external }) => pid === null && !external)) {
    process.stdout.write(`The system in ${dataDir} is not running; start it with "npm run up".\n`);
    return;
  }
  for (const { name, pid, port, healthy, external, blocked } of services) {
    const where = external ? 'external' : pid === null ? 'no process' : `process ${pid}`;
    process.stdout.write(
      `${name.padEnd(9)}  ${blocked ? 'BLOCKED' : healthy ? 'healthy' : 'DOWN   '}  ${where}${port === null ? '' : `, port ${port}`}\n`,
    );
  }
  if (services.some(({ blocked }) => blocked))
    process.stdout.write('RabbitMQ lacks memory or disk space and accepts no messages: free some. Tasks wait meanwhile.\n');
  const state = readState(layoutOf(dataDir));
  if (isUp && state !== undefined) process.stdout.write(`\n${addressesOf(state).join('\n')}\n`);
  if (!isSupervised)
    process.stdout.write('The supervisor is not running: "up" starts everything again, "down" stops what is left.\n');
}
