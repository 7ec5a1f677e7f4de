import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { readJson, writeJson } from '../machine/files';
import { isAlive } from '../processes/process-identity';

import type { TemporalAccess } from '../engines/temporal-access';
import type { Layout } from '../machine/layout';
import type { Ports } from '../machine/ports';
import type { ProcessIdentity } from '../processes/process-identity';
import type { ReplicaName, ServiceName } from '../processes/start-context';

export interface ServiceState {
  name: ReplicaName;
  /** Null while the process is not running, and for external services. */
  pid: number | null;
  /** The main port. For workers, the health port; null for the endpoint, which opens no port. */
  port: number | null;
  external: boolean;
  /** stopped, starting, ready, waiting to restart or stopping. External services are always "ready". */
  state: string;
  log: string | null;
}

/** `<data>/run/state.json`, mode 600, written after every change; `down` keeps it. It contains no secrets. */
export interface SystemState {
  version: 1;
  phase: 'starting' | 'ready' | 'stopping' | 'stopped' | 'failed';
  /** The reason, in the phase `failed`. */
  failure: string | null;
  supervisor: ProcessIdentity;
  started_ms: number;
  data_dir: string;
  logs_dir: string;
  ports: Ports;
  /** One entry per part of this system. With `--no-endpoint`, there is no `endpoint`. */
  services: ServiceState[];
  /** A JSON file (mode 600) with the environment variables of each of our processes. */
  env_files: Partial<Record<ServiceName, string>>;
  api_url: string;
  ws_url: string;
  temporal_address: string;
  temporal_ui_url: string | null;
  /** What clients of the system's own Temporal server need on a shared host; null if the server has no login. */
  temporal_access: TemporalAccess | null;
  amqp_public_url: string;
  /** Without credentials. */
  management_url: string;
  broker_user: string | null;
  broker_password_file: string | null;
  ca_file: string | null;
  /** A JSON file (mode 600) with the administrator's {client_id, client_secret, name}. */
  identity_file: string;
  endpoint: { name: string; dir: string; id: string | null } | null;
  /** Path of the agent's Python, which has the packages that its workers need. */
  python: string | null;
  /** The call at the end of the start: its value, its task and how long it took. */
  hello: { value: string; task_id: string; ms: number } | null;
}

export const stateFile = (layout: Layout): string => join(layout.runDir, 'state.json');

export function writeState(layout: Layout, state: SystemState): void {
  writeJson(stateFile(layout), state);
}

/** Reads the last state of this data folder. Its supervisor may no longer run. */
export function readState(layout: Layout): SystemState | undefined {
  const stored = readJson(stateFile(layout)) as SystemState | undefined;
  return stored?.version === 1 ? stored : undefined;
}

const lockFile = (layout: Layout): string => join(layout.runDir, 'supervisor.json');

export function livingSupervisor(layout: Layout): ProcessIdentity | undefined {
  const stored = readJson(lockFile(layout)) as ProcessIdentity | undefined;
  return stored !== undefined && isAlive(stored) ? stored : undefined;
}

/** Makes this process the supervisor of the data folder. If one is already running, returns that one instead. */
export function claimSupervision(layout: Layout, own: ProcessIdentity): ProcessIdentity | undefined {
  for (;;) {
    try {
      writeFileSync(lockFile(layout), JSON.stringify(own), { flag: 'wx', mode: 0o644 });
      return undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const other = livingSupervisor(layout);
      if (other !== undefined) return other;
      rmSync(lockFile(layout), { force: true });
    }
  }
}

export function releaseSupervision(layout: Layout): void {
  rmSync(lockFile(layout), { force: true });
}

/** The address of the system's own Temporal server; undefined if the system uses an external server. */
export function ownTemporalOf(state: SystemState | undefined): string | undefined {
  const isOwn = state?.services.some(({ name, external }) => name === 'temporal' && !external) === true;
  return isOwn ? state.temporal_address : undefined;
}
