import { DEFAULT_DATA_DIR } from '../machine/layout';
import { DEFAULT_PORTS } from '../machine/ports';
import { UserError } from '../machine/user-error';

import type { PortName } from '../machine/ports';

/** What `up` can be told. A port of 0 asks for any free one. */
export interface UpOptions {
  dataDir: string;
  /** Ports asked for on the command line; the others are the remembered or the usual ones. */
  ports: Partial<Record<PortName, number>>;
  endpoint: boolean;
  endpointName: string;
  /** Everybody who has an identity may use the local endpoint; function code then needs a user or a sandbox of its own. */
  publicTutorial: boolean;
  /** Start PostgreSQL, Temporal and RabbitMQ, and nothing of ours. */
  onlyEngines: boolean;
}

/** Parts that run elsewhere, by the environment. */
export interface Externals {
  databaseUrl?: string;
  temporalAddress?: string;
  amqpUrl?: string;
  managementUrl?: string;
}

export function readExternals(env: NodeJS.ProcessEnv = process.env): Externals {
  const read = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);
  const [amqpUrl, managementUrl] = [read('AMQP_URL'), read('AMQP_MANAGEMENT_URL')];
  if ((amqpUrl === undefined) !== (managementUrl === undefined)) {
    throw new UserError('AMQP_URL and AMQP_MANAGEMENT_URL go together: set both to use a broker of your own, or none.');
  }
  return { databaseUrl: read('DATABASE_URL'), temporalAddress: read('TEMPORAL_ADDRESS'), amqpUrl, managementUrl };
}

export const DEFAULT_UP: UpOptions = {
  dataDir: process.env.FUNCX_DATA_DIR ?? DEFAULT_DATA_DIR,
  ports: {},
  endpoint: true,
  endpointName: 'local',
  publicTutorial: false,
  onlyEngines: false,
};

/** Option names of the ports that have one. */
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
