import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { readJson, writeJson } from '../machine/files';
import { isAlive } from '../processes/process-identity';

import type { Layout } from '../machine/layout';
import type { Ports } from '../machine/ports';
import type { ProcessIdentity } from '../processes/process-identity';
import type { ServiceName } from '../processes/start-context';

export interface ServiceState {
  name: ServiceName;
  /** Null while it does not live, and for external services. */
  pid: number | null;
  /** The port by which it is best known; for workers the health port, null for the endpoint, which opens none. */
  port: number | null;
  external: boolean;
  /** Of our process: stopped, starting, ready, waiting to restart, stopping. External services are "ready". */
  state: string;
  log: string | null;
}

/**
 * `<data>/run/state.json`: written whole at every change by the supervisor, mode 600, and left behind by `down`.
 * It holds addresses and names of files, no secrets; those are in the files that it names.
 */
export interface SystemState {
  version: 1;
  phase: 'starting' | 'ready' | 'stopping' | 'stopped' | 'failed';
  /** Why, in the phase `failed`. */
  failure: string | null;
  supervisor: ProcessIdentity;
  started_ms: number;
  data_dir: string;
  logs_dir: string;
  ports: Ports;
  /** One for each part that this system has, so no `endpoint` with `--no-endpoint`. */
  services: ServiceState[];
  /** The environment given to each process of ours, as JSON of names and values, mode 600. */
  env_files: Partial<Record<ServiceName, string>>;
  api_url: string;
  ws_url: string;
  temporal_address: string;
  temporal_ui_url: string | null;
  amqp_public_url: string;
  /** Without credentials. */
  management_url: string;
  broker_user: string | null;
  broker_password_file: string | null;
  ca_file: string | null;
  /** JSON {client_id, client_secret, name} of the administrator, mode 600. */
  identity_file: string;
  endpoint: { name: string; dir: string; id: string | null } | null;
  /** The agent's Python, with the packages that its workers need. */
  python: string | null;
  /** What the hello function answered at the end of the start. */
  hello: { value: string; task_id: string; ms: number } | null;
}

export const stateFile = (layout: Layout): string => join(layout.runDir, 'state.json');

export function writeState(layout: Layout, state: SystemState): void {
  writeJson(stateFile(layout), state);
}

/** The last state written for this data folder, by a supervisor that may be gone. */
export function readState(layout: Layout): SystemState | undefined {
  const stored = readJson(stateFile(layout)) as SystemState | undefined;
  return stored?.version === 1 ? stored : undefined;
}

const lockFile = (layout: Layout): string => join(layout.runDir, 'supervisor.json');

/** The living supervisor of this data folder. */
export function livingSupervisor(layout: Layout): ProcessIdentity | undefined {
  const stored = readJson(lockFile(layout)) as ProcessIdentity | undefined;
  return stored !== undefined && isAlive(stored) ? stored : undefined;
}

/** Makes this process the supervisor of the data folder; returns the living one where there is one already. */
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
