import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

import { readJson, writeJson } from '../setup/files';
import { logFileOf, REPOSITORY } from '../setup/layout';
import { ManagedProcess } from './managed-process';
import { ensureEnvironment, type EnvironmentContext } from '../setup/python';
import { UserError } from '../user-error';

import type { Layout } from '../setup/layout';
import type { StartContext } from './part';

const READY_MS = 60_000;
const STOP_MS = 30_000;
const ASK_MS = 3_000;
const AGENT_STATUS_FRESH_MS = 20_000;
const AGENT_REQUIREMENTS = join(REPOSITORY, 'endpoint', 'requirements.txt');

/** Variables of the service that must not reach the agent: user functions can read its environment. */
export const SERVICE_VARIABLES = /^(DATABASE_|TEMPORAL_|AMQP_|FUNCX_TOKEN_KEY$|FUNCX_BOOTSTRAP_)/;

export type OurService = 'api' | 'workers' | 'endpoint';

export const envFileOf = (layout: Layout, name: OurService): string => join(layout.runDir, `${name}.env.json`);

/** Starts `dist/<name>/main.js` with this environment on top of ours, which is also written down for whoever debugs it. */
export async function startOurs(
  name: OurService,
  variables: Record<string, string>,
  isReady: (pid: number) => Promise<boolean>,
  context: StartContext,
): Promise<ManagedProcess> {
  const entry = join(REPOSITORY, 'dist', name, 'main.js');
  if (!existsSync(entry)) throw new UserError(`${entry} is missing; run "npm run build".`);
  writeJson(envFileOf(context.layout, name), variables);
  const inherited = Object.entries(process.env).filter(([key]) => name !== 'endpoint' || !SERVICE_VARIABLES.test(key));
  const managed = new ManagedProcess({
    name,
    program: {
      command: process.execPath,
      args: ['--enable-source-maps', entry],
      env: { ...Object.fromEntries(inherited), ...variables },
      cwd: name === 'endpoint' ? variables.FUNCX_ENDPOINT_DIR : context.layout.dataDir,
    },
    log: logFileOf(context.layout, name),
    isReady,
    readyWithinMs: READY_MS,
    stopWithinMs: STOP_MS,
    // Clients of the results socket connect again at once and only once, so the API waits for its successor at SIGTERM.
    ...(name === 'api' ? { handsOver: true, stopSignal: 'SIGINT' as const } : {}),
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
  await managed.start(context.signal);
  return managed;
}

/** True when this port of ours answers 200 to /readyz. */
export async function answersReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(ASK_MS) });
  await answer.arrayBuffer();
  return answer.status === 200;
}

export const endpointDirOf = (layout: Layout, name: string): string => join(layout.endpointsDir, name);

export function makeEndpointDir(layout: Layout, name: string): string {
  const dir = endpointDirOf(layout, name);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}

/** The agent writes `status.json` with each heartbeat; `pid` says whose words these are. */
export function isAgentConnected(dir: string, pid: number): boolean {
  const status = readJson(join(dir, 'status.json')) as { state?: string; pid?: number; updated_ms?: number } | undefined;
  if (status?.state !== 'connected' || status.pid !== pid) return false;
  return Date.now() - (status.updated_ms ?? 0) < AGENT_STATUS_FRESH_MS;
}

export function readEndpointId(dir: string): string | null {
  const known = readJson(join(dir, 'endpoint.json')) as { endpoint_id?: string } | undefined;
  return known?.endpoint_id ?? null;
}

/** The Python of the agent's private environment. */
export async function ensureAgentPython(context: EnvironmentContext): Promise<string> {
  const requirements = readFileSync(AGENT_REQUIREMENTS, 'utf8');
  return join(await ensureEnvironment({ name: 'agent-python', requirements }, context), 'bin', 'python');
}

export const defaultWorkers = (): string => process.env.FUNCX_WORKERS ?? String(availableParallelism());
