import { answers, databaseUrl } from './engines/postgres';
import { answersManagement, managementUrl } from './engines/rabbitmq';
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
import type { ServiceName } from './processes/start-context';
import type { ServiceState, SystemState } from './setup/state';

export interface ServiceStatus {
  name: ServiceName;
  pid: number | null;
  port: number | null;
  healthy: boolean;
  external: boolean;
}

export interface SystemStatus {
  isUp: boolean;
  /** False when no supervisor is alive to restart processes. */
  isSupervised: boolean;
  services: ServiceStatus[];
}

/** Asks each part directly, not the supervisor. Parts that this system was started without are not listed. */
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
  const healthy = isAsked && (await isHealthy(name, pid, layout, state).catch(() => false));
  return { name, pid, port, healthy, external };
}

async function isHealthy(name: ServiceName, pid: number | null, layout: Layout, state: SystemState): Promise<boolean> {
  const { ports } = state;
  const given = (readJson(envFileOf(layout, 'api')) ?? {}) as Record<string, string>;
  switch (name) {
    case 'postgres':
      return answers(given.DATABASE_URL ?? databaseUrl(layout, ports.postgres));
    case 'temporal': {
      if (pid !== null) return knowsNamespace(ports.temporalUi);
      const { hostname, port } = new URL(`tcp://${state.temporal_address}`);
      return accepts(hostname, Number(port));
    }
    case 'rabbitmq':
      return answersManagement(given.AMQP_MANAGEMENT_URL ?? managementUrl(layout, ports));
    case 'api':
      return answersReady(ports.api);
    case 'workers':
      return answersReady(ports.workersHealth);
    case 'endpoint':
      return pid !== null && state.endpoint !== null && isAgentConnected(state.endpoint.dir, pid);
  }
}
