import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

import { readJson } from '../machine/files';
import { REPOSITORY } from '../machine/layout';
import { isAlive, type ProcessIdentity } from '../processes/process-identity';
import { ensureEnvironment, type EnvironmentContext } from '../processes/python';

import type { Layout } from '../machine/layout';

const AGENT_STATUS_FRESH_MS = 20_000;
const AGENT_REQUIREMENTS = join(REPOSITORY, 'endpoint', 'requirements.txt');
const AGENT_LOCK = join(REPOSITORY, 'endpoint', 'requirements.lock');

/** Variables of the service that the agent must not get, because functions can read the agent's environment. */
export const SERVICE_VARIABLES = /^(DATABASE_|TEMPORAL_|AMQP_|FUNCX_TOKEN_KEY$|FUNCX_BOOTSTRAP_)/;

export const endpointDirOf = (layout: Layout, name: string): string => join(layout.endpointsDir, name);

export function makeEndpointDir(layout: Layout, name: string): string {
  const dir = endpointDirOf(layout, name);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}

/** The agent writes `status.json` with each heartbeat. `pid` tells which agent process wrote it. */
export function isAgentConnected(dir: string, pid: number): boolean {
  const status = readJson(join(dir, 'status.json')) as { state?: string; pid?: number; updated_ms?: number } | undefined;
  if (status?.state !== 'connected' || status.pid !== pid) return false;
  return Date.now() - (status.updated_ms ?? 0) < AGENT_STATUS_FRESH_MS;
}

export function readEndpointId(dir: string): string | null {
  const known = readJson(join(dir, 'endpoint.json')) as { endpoint_id?: string } | undefined;
  return known?.endpoint_id ?? null;
}

/** The packages that the agent's workers need, as a short requirements file without their dependencies. */
export const agentRequirements = (): string => readFileSync(AGENT_REQUIREMENTS, 'utf8');

/** The same packages and all their dependencies, with versions and hashes. */
export const lockedAgentPackages = (): string => readFileSync(AGENT_LOCK, 'utf8');

export async function ensureAgentPython(context: EnvironmentContext): Promise<string> {
  return join(await ensureEnvironment({ name: 'agent-python', locked: lockedAgentPackages() }, context), 'bin', 'python');
}

export const processFileOf = (dir: string): string => join(dir, 'process.json');

export function runningProcess(dir: string): ProcessIdentity | undefined {
  const stored = readJson(processFileOf(dir)) as ProcessIdentity | undefined;
  return stored !== undefined && isAlive(stored) ? stored : undefined;
}

export function listRunningAgents(layout: Layout): { name: string; pid: number }[] {
  if (!existsSync(layout.endpointsDir)) return [];
  return readdirSync(layout.endpointsDir)
    .sort()
    .flatMap((name) => {
      const running = runningProcess(endpointDirOf(layout, name));
      return running === undefined ? [] : [{ name, pid: running.pid }];
    });
}

export const defaultWorkers = (): string => process.env.FUNCX_WORKERS ?? String(availableParallelism());
