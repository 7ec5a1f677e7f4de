import { answers, databaseUrl } from './engines/postgres';
import { answersManagement, isBlocked, managementUrl } from './engines/rabbitmq';
import { knowsNamespace } from './engines/temporal';
import { readJson } from './machine/files';
import { layoutOf } from './machine/layout';
import { accepts } from './machine/ports';
import { identify } from './processes/process-identity';
import { SERVICE_NAMES } from './processes/start-context';
import { isAgentConnected } from './setup/agent-folder';
import { livingSupervisor, readState } from './setup/state';
import { answersReady, envFileOf } from './supervisor/our-services';

import type { Layout } from './machine/layout';
import type { ReplicaName } from './processes/start-context';
import type { ServiceState, SystemState } from './setup/state';

export interface ServiceStatus {
  name: ReplicaName;
  pid: number | null;
  port: number | null;
  healthy: boolean;
  external: boolean;
  /** Present only for a message broker that lacks memory or disk space. Such a broker is healthy but accepts no messages. */
  blocked?: true;
}

export interface SystemStatus {
  isUp: boolean;
  /** False when no supervisor is alive to restart processes. */
  isSupervised: boolean;
  services: ServiceStatus[];
}

/** Checks each part directly, without the supervisor. Parts that this system was started without are not listed. */
export async function readStatus(dataDir: string): Promise<SystemStatus> {
  const layout = layoutOf(dataDir);
  const state = readState(layout);
  const isSupervised = livingSupervisor(layout) !== undefined;
  if (state === undefined) {
    const services = SERVICE_NAMES.map((name) => ({ name, pid: null, port: null, healthy: false, external: false }));
    return { isUp: false, isSupervised, services };
  }
  const services = await Promise.all(state.services.map((service) => look(service, layout, state)));
  return { isUp: isSupervised && services.every(({ healthy }) => healthy), isSupervised, services };
}

async function look(service: ServiceState, layout: Layout, state: SystemState): Promise<ServiceStatus> {
  const { name, port, external } = service;
  const pid = service.pid !== null && identify(service.pid) !== undefined ? service.pid : null;
  const isAsked = external ? state.phase === 'ready' : pid !== null;
  const healthy = isAsked && (await isHealthy(service, pid, layout, state).catch(() => false));
  const blocked = name === 'rabbitmq' && healthy && (await isBlocked(brokerOf(layout, state)).catch(() => false));
  return { name, pid, port, healthy, external, ...(blocked ? { blocked } : {}) };
}

const given = (layout: Layout): Record<string, string> => (readJson(envFileOf(layout, 'api')) ?? {}) as Record<string, string>;

const brokerOf = (layout: Layout, { ports }: SystemState): string =>
  given(layout).AMQP_MANAGEMENT_URL ?? managementUrl(layout, ports);

async function isHealthy({ name, port }: ServiceState, pid: number | null, layout: Layout, state: SystemState): Promise<boolean> {
  const { ports } = state;
  switch (name.replace(/-\d+$/, '')) {
    case 'postgres':
      return answers(given(layout).DATABASE_URL ?? databaseUrl(layout, ports.postgres));
    case 'temporal': {
      if (pid !== null) return knowsNamespace(ports.temporalUi, state.temporal_access);
      const { hostname, port } = new URL(`tcp://${state.temporal_address}`);
      return accepts(hostname, Number(port));
    }
    case 'rabbitmq':
      return answersManagement(brokerOf(layout, state));
    case 'api':
      return answersReady(ports.api); // every replica answers there
    case 'workers':
      return port !== null && answersReady(port);
    case 'endpoint':
      return pid !== null && state.endpoint !== null && isAgentConnected(state.endpoint.dir, pid);
    default:
      return false;
  }
}
