import { DEFAULT_DATA_DIR } from '../machine/layout';
import { DEFAULT_PORTS } from '../machine/ports';
import { UserError } from '../machine/user-error';

import type { PortName } from '../machine/ports';

/** Options of `up`. Port 0 means any free port. */
export interface UpOptions {
  dataDir: string;
  /** Ports from the command line. Other ports keep the value of the last start, or their default. */
  ports: Partial<Record<PortName, number>>;
  endpoint: boolean;
  endpointName: string;
  /** Every identity may use the local endpoint. Function code then needs its own user or a sandbox. */
  publicTutorial: boolean;
  /** Other users of this machine are not trusted: Temporal requires a certificate, and its UI a password. */
  sharedHost: boolean;
  /** Start only PostgreSQL, Temporal and RabbitMQ. */
  onlyEngines: boolean;
  /** Number of processes of each service. The API processes share the ports of the API. */
  replicas: Record<ReplicatedService, number>;
}

export type ReplicatedService = 'api' | 'workers';

/** External engines, from environment variables. */
export interface Externals {
  databaseUrl?: string;
  temporalAddress?: string;
  amqpUrl?: string;
  managementUrl?: string;
}

/** `ownTemporal`: address of this system's own Temporal server. `funcx env` exports it; it does not mean an external server. */
export function readExternals(env: NodeJS.ProcessEnv = process.env, ownTemporal?: string): Externals {
  const read = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);
  const [amqpUrl, managementUrl] = [read('AMQP_URL'), read('AMQP_MANAGEMENT_URL')];
  if ((amqpUrl === undefined) !== (managementUrl === undefined)) {
    throw new UserError('Set both AMQP_URL and AMQP_MANAGEMENT_URL to use your own broker, or neither.');
  }
  const temporal = read('TEMPORAL_ADDRESS');
  const temporalAddress = temporal === ownTemporal ? undefined : temporal;
  return { databaseUrl: read('DATABASE_URL'), temporalAddress, amqpUrl, managementUrl };
}

export const DEFAULT_UP: UpOptions = {
  dataDir: process.env.FUNCX_DATA_DIR ?? DEFAULT_DATA_DIR,
  ports: {},
  endpoint: true,
  endpointName: 'local',
  publicTutorial: false,
  sharedHost: false,
  onlyEngines: false,
  replicas: { api: 1, workers: 1 },
};

export const PORT_OPTIONS: Partial<Record<PortName, { flag: string; what: string }>> = {
  api: { flag: '--api-port', what: `port of the API (default ${DEFAULT_PORTS.api}, where the stock clients look)` },
  ws: { flag: '--ws-port', what: `port of the results WebSocket (default ${DEFAULT_PORTS.ws})` },
  temporal: { flag: '--temporal-port', what: `port of Temporal (default ${DEFAULT_PORTS.temporal})` },
  temporalUi: { flag: '--temporal-ui-port', what: `port of the Temporal UI (default ${DEFAULT_PORTS.temporalUi})` },
  amqp: { flag: '--amqp-port', what: `port of AMQP, on loopback (default ${DEFAULT_PORTS.amqp})` },
  amqps: { flag: '--amqps-port', what: `port of AMQPS (default ${DEFAULT_PORTS.amqps})` },
  management: { flag: '--management-port', what: `port of RabbitMQ management (default ${DEFAULT_PORTS.management})` },
  postgres: { flag: '--postgres-port', what: `port of PostgreSQL (default ${DEFAULT_PORTS.postgres})` },
};
