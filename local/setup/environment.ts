import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { databaseUrl } from '../engines/postgres';
import { amqpUrl, BROKER_USER, brokerPasswordFile, managementUrl, MAX_MESSAGE_BYTES, VHOST } from '../engines/rabbitmq';
import { clientVariables, ensureAccess } from '../engines/temporal-access';
import { keepSecret, writeJson } from '../machine/files';
import { identify } from '../processes/process-identity';
import { defaultWorkers } from './agent-folder';
import { separationVariables, type Separation } from './separation';

import type { Layout } from '../machine/layout';
import type { Ports } from '../machine/ports';
import type { AgentIdentity, Credentials } from './agent-identity';
import type { Externals } from './options';
import type { SystemState } from './state';

/** The addresses of one system, and the environment variables of our processes. */

const LOOPBACK = '127.0.0.1';
const KEY_BYTES = 32;
/** Variables about TLS and keys of a Temporal server. */
export const TEMPORAL_SECURITY = /^TEMPORAL_(TLS|API_KEY)/;

/** The state when a start begins: all addresses are known, nothing runs. Creates the administrator's identity. */
export function initialState(layout: Layout, ports: Ports, externals: Externals, isSharedHost = false): SystemState {
  const { amqpUrl: broker, managementUrl: management, temporalAddress } = externals;
  const { API_PUBLIC_URL, TEMPORAL_UI_URL, AMQP_PUBLIC_URL, AMQP_PUBLIC_CA_FILE } = process.env;
  const supervisor = identify(process.pid);
  if (supervisor === undefined) throw new Error('this process cannot read its own start time');
  const isOwnTemporal = temporalAddress === undefined;
  const isOwnBroker = broker === undefined;
  return {
    version: 1,
    phase: 'starting',
    failure: null,
    supervisor,
    started_ms: Date.now(),
    data_dir: layout.dataDir,
    logs_dir: layout.logsDir,
    ports,
    services: [],
    env_files: {},
    api_url: API_PUBLIC_URL ?? `http://localhost:${ports.api}`,
    ws_url: `ws://localhost:${ports.ws}`,
    temporal_address: temporalAddress ?? `${LOOPBACK}:${ports.temporal}`,
    temporal_ui_url: TEMPORAL_UI_URL ?? (isOwnTemporal ? `http://localhost:${ports.temporalUi}` : null),
    temporal_access: isSharedHost && isOwnTemporal ? ensureAccess(layout) : null,
    amqp_public_url: AMQP_PUBLIC_URL ?? withoutCredentials(broker ?? `amqps://localhost:${ports.amqps}/${VHOST}`),
    management_url: withoutCredentials(management ?? `http://localhost:${ports.management}`),
    broker_user: isOwnBroker ? BROKER_USER : null,
    broker_password_file: isOwnBroker ? brokerPasswordFile(layout) : null,
    ca_file: AMQP_PUBLIC_CA_FILE ?? (isOwnBroker ? join(layout.tlsDir, 'ca.pem') : null),
    identity_file: ensureIdentity(layout),
    endpoint: null,
    python: null,
    hello: null,
  };
}

/** Environment of `api` and `workers`, added to the inherited environment; platform/config reads both. */
export function serviceVariables(
  layout: Layout,
  state: SystemState,
  externals: Externals,
  agentFile?: string,
): Record<string, string> {
  const { ports } = state;
  return {
    DATABASE_URL: externals.databaseUrl ?? databaseUrl(layout, ports.postgres),
    TEMPORAL_ADDRESS: state.temporal_address,
    ...temporalSecurity(state, externals),
    TEMPORAL_NAMESPACE: process.env.TEMPORAL_NAMESPACE ?? 'default',
    ...(state.temporal_ui_url === null ? {} : { TEMPORAL_UI_URL: state.temporal_ui_url }),
    AMQP_URL: externals.amqpUrl ?? amqpUrl(layout, ports),
    AMQP_MANAGEMENT_URL: externals.managementUrl ?? managementUrl(layout, ports),
    AMQP_PUBLIC_URL: state.amqp_public_url,
    ...(state.ca_file === null ? {} : { AMQP_PUBLIC_CA_FILE: state.ca_file }),
    ...(externals.amqpUrl === undefined ? { FUNCX_MAX_MESSAGE_BYTES: String(MAX_MESSAGE_BYTES) } : {}),
    API_HOST: LOOPBACK,
    API_PORT: String(ports.api),
    WS_PORT: String(ports.ws),
    API_PUBLIC_URL: state.api_url,
    FUNCX_TOKEN_KEY: keepSecret(join(layout.secretsDir, 'token-key'), KEY_BYTES),
    FUNCX_BOOTSTRAP_IDENTITY_FILE: state.identity_file,
    ...(agentFile === undefined ? {} : { FUNCX_BOOTSTRAP_AGENT_FILE: agentFile }),
    LOG_LEVEL: process.env.LOG_LEVEL ?? 'info',
    NODE_ENV: process.env.NODE_ENV ?? 'production',
  };
}

/** TLS settings and API keys from the shell apply only to an external Temporal server, not to the system's own server. */
function temporalSecurity({ temporal_access: access }: SystemState, externals: Externals): Record<string, string> {
  if (access !== null) return clientVariables(access);
  const given = Object.entries(process.env).filter(([name, value]) => TEMPORAL_SECURITY.test(name) && value !== undefined);
  return externals.temporalAddress === undefined ? {} : (Object.fromEntries(given) as Record<string, string>);
}

export interface AgentSettings {
  name: string;
  dir: string;
  python: string;
  identity: Credentials & Partial<AgentIdentity>;
  separation?: Separation;
}

/** Environment of the agent: the API's address and an identity, and no credentials of the engines. */
export function agentVariables(state: SystemState, settings: AgentSettings): Record<string, string> {
  const { name, dir, python, identity, separation } = settings;
  return {
    FUNCX_API_URL: state.api_url,
    FUNCX_CLIENT_ID: identity.client_id,
    FUNCX_CLIENT_SECRET: identity.client_secret,
    ...(state.ca_file === null ? {} : { FUNCX_CA: state.ca_file }),
    FUNCX_ENDPOINT_NAME: name,
    ...(identity.endpoint_id === undefined ? {} : { FUNCX_ENDPOINT_ID: identity.endpoint_id }),
    FUNCX_ENDPOINT_PUBLIC: identity.public === true ? '1' : '0',
    ...separationVariables(separation ?? {}),
    FUNCX_ENDPOINT_DIR: dir,
    FUNCX_PYTHON: python,
    FUNCX_WORKERS: defaultWorkers(),
    LOG_LEVEL: process.env.LOG_LEVEL ?? 'info',
  };
}

function ensureIdentity(layout: Layout): string {
  const file = join(layout.secretsDir, 'identity.json');
  if (!existsSync(file)) {
    const secret = keepSecret(join(layout.secretsDir, 'identity-secret'), KEY_BYTES);
    writeJson(file, { client_id: randomUUID(), client_secret: secret, name: 'admin' });
  }
  return file;
}

function withoutCredentials(address: string): string {
  const url = new URL(address);
  url.username = '';
  url.password = '';
  return url.toString().replace(/\/$/, '');
}
