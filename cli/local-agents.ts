import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { readJson, tailOf, writeJson } from '../local/machine/files';
import { cacheDirOf, makeFolders, REPOSITORY, type Layout } from '../local/machine/layout';
import {
  defaultWorkers,
  endpointDirOf,
  isAgentConnected,
  makeEndpointDir,
  processFileOf,
  readEndpointId,
  runningProcess,
  SERVICE_VARIABLES,
} from '../local/setup/agent-folder';
import { separationVariables, findIsolation, findSeparation, isSameUserWanted } from '../local/setup/separation';
import { identify, sendSignal, waitUntilGone } from '../local/processes/process-identity';
import { readState } from '../local/setup/state';
import { UserError } from '../local/machine/user-error';
import { FuncXError } from '../sdk/index';

import { findAgentPython, readSettings, rememberSettings, settingsWith, type SettingOptions } from './agent-settings';

import { withClient, type Connection } from './connection';

/** Agents of this machine, each in `endpoints/<name>` of the data folder. They outlive the command that started them. */

export interface LocalAgent {
  name: string;
  dir: string;
  /** Null before its first registration. */
  id: string | null;
  pid: number | null;
  /** True for the agent that `up` starts and `down` stops. */
  isSystems: boolean;
}

export interface StartOptions extends SettingOptions {
  id?: string;
  /** Undefined keeps the last value. A new endpoint is private. */
  isPublic?: boolean;
  groupId?: string;
  functionIds?: string[];
  workers?: number;
  isIsolated?: boolean;
}

const READY_MS = 60_000;
const POLL_MS = 50;
/** The agent lets running calls finish for 30 s. */
const STOP_MS = 40_000;
const KILL_MS = 5_000;

/** A valid name of an endpoint, which is also the name of a folder. */
const isName = (text: string): boolean => /^[A-Za-z0-9._-]{1,128}$/.test(text) && !/^\.+$/.test(text);
export const agentLog = (dir: string): string => join(dir, 'agent.log');

export function findLocalAgent(layout: Layout, name: string): LocalAgent | undefined {
  const dir = endpointDirOf(layout, name);
  if (!isName(name) || !existsSync(dir)) return undefined;
  const state = readState(layout);
  const isSystems = state?.endpoint?.name === name;
  const systemsPid = state?.services.find((service) => service.name === 'endpoint')?.pid ?? null;
  const own = runningProcess(dir)?.pid ?? null;
  const isSystemsAlive = systemsPid !== null && identify(systemsPid) !== undefined;
  return { name, dir, id: readEndpointId(dir), pid: isSystems ? (isSystemsAlive ? systemsPid : null) : own, isSystems };
}

export function listLocalAgents(layout: Layout): LocalAgent[] {
  if (!existsSync(layout.endpointsDir)) return [];
  return readdirSync(layout.endpointsDir)
    .sort()
    .flatMap((name) => findLocalAgent(layout, name) ?? []);
}

/** Starts an agent and waits until it is connected. Does not change an agent that already runs. */
export async function startAgent(
  layout: Layout,
  connection: Connection,
  name: string,
  options: StartOptions,
): Promise<{ agent: LocalAgent; isNew: boolean }> {
  if (!isName(name))
    throw new UserError(`"${name}" is not a valid endpoint name: use letters, digits, dot, underscore and dash.`);
  makeFolders(layout);
  const present = findLocalAgent(layout, name);
  if (present?.isSystems === true && present.pid === null)
    throw new UserError(`The endpoint ${name} belongs to the system in ${layout.dataDir}; it starts with "npm run up".`);
  if (present !== undefined && present.pid !== null) return { agent: present, isNew: false };

  const isShared = await willBeShared(layout, present?.id ?? options.id, options);
  const settings = settingsWith(readSettings(endpointDirOf(layout, name)), options);
  const python = await findAgentPython(layout, name, settings.python);
  const dir = makeEndpointDir(layout, name);
  rememberSettings(dir, settings);
  const settled = {
    FUNCX_PYTHON: python.path,
    FUNCX_PACKAGE_ADVICE: python.advice,
    FUNCX_SANDBOX: settings.taskDirectories === true ? '1' : (process.env.FUNCX_SANDBOX ?? '0'),
  };
  const { workers, isIsolated } = settings;
  const variables = variablesOf(layout, connection, name, dir, { ...options, workers, isIsolated, isShared });
  const output = openSync(agentLog(dir), 'a', 0o600);
  const child = spawn(process.execPath, ['--enable-source-maps', join(REPOSITORY, 'dist', 'endpoint', 'main.js')], {
    cwd: dir,
    // User functions can read the agent's environment, so it has no variables of the engines.
    env: {
      ...Object.fromEntries(Object.entries(process.env).filter(([key]) => !SERVICE_VARIABLES.test(key))),
      ...variables,
      ...settled,
    },
    stdio: ['ignore', output, output],
    detached: true,
  });
  closeSync(output);
  let exit: string | undefined;
  child.once('exit', (code, signal) => (exit = signal ?? `exit code ${code}`)).once('error', (error) => (exit = error.message));
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  if (identity !== undefined) writeJson(processFileOf(dir), identity);
  for (const deadline = Date.now() + READY_MS; ;) {
    if (identity === undefined || exit !== undefined)
      throw new UserError(
        `The agent of endpoint ${name} ended (${exit ?? 'immediately'}). From ${agentLog(dir)}:\n  ${tailOf(agentLog(dir), 4)}`,
      );
    if (isAgentConnected(dir, identity.pid)) break;
    const problem = problemOf(dir, identity.pid);
    if (problem !== undefined) {
      sendSignal(identity.pid, 'SIGTERM');
      throw new UserError(`The agent of endpoint ${name} cannot run functions. ${problem}`);
    }
    if (Date.now() > deadline) {
      sendSignal(identity.pid, 'SIGTERM');
      throw new UserError(`The agent of endpoint ${name} was not connected after ${READY_MS / 1000} s; see ${agentLog(dir)}.`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  child.unref();
  return { agent: { name, dir, id: readEndpointId(dir), pid: identity.pid, isSystems: false }, isNew: true };
}

/** Returns why the agent takes no tasks, from its `status.json`. Undefined while its first worker is still starting. */
function problemOf(dir: string, pid: number): string | undefined {
  const status = readJson(join(dir, 'status.json')) as { pid?: number; problem?: string; is_starting?: boolean } | undefined;
  return status?.pid === pid && !status.is_starting ? status.problem : undefined;
}

/** Stops an agent, which first finishes its running calls. Returns false if it did not run. */
export async function stopAgent(agent: LocalAgent): Promise<boolean> {
  if (agent.isSystems)
    throw new UserError(`The endpoint ${agent.name} belongs to the system; it is stopped with the whole system by "funcx down".`);
  const running = runningProcess(agent.dir);
  if (running === undefined) return false;
  sendSignal(running.pid, 'SIGTERM');
  if (!(await waitUntilGone([running], STOP_MS))) {
    sendSignal(running.pid, 'SIGKILL');
    await waitUntilGone([running], KILL_MS);
  }
  rmSync(processFileOf(agent.dir), { force: true });
  return true;
}

export function forgetAgent(agent: LocalAgent): void {
  rmSync(agent.dir, { recursive: true, force: true });
}

function variablesOf(
  layout: Layout,
  { apiUrl, clientId, clientSecret, caFile }: Connection,
  name: string,
  dir: string,
  options: StartOptions & { isShared: boolean },
): Record<string, string> {
  return {
    FUNCX_API_URL: apiUrl,
    FUNCX_CLIENT_ID: clientId,
    FUNCX_CLIENT_SECRET: clientSecret,
    ...(caFile === null ? {} : { FUNCX_CA: caFile }),
    FUNCX_ENDPOINT_NAME: name,
    FUNCX_ENDPOINT_DIR: dir,
    FUNCX_WORKERS: options.workers === undefined ? defaultWorkers() : String(options.workers),
    ...(options.isPublic === undefined ? {} : { FUNCX_ENDPOINT_PUBLIC: options.isPublic ? '1' : '0' }),
    ...(options.groupId === undefined ? {} : { FUNCX_ENDPOINT_GROUP: options.groupId }),
    ...(options.functionIds === undefined ? {} : { FUNCX_ENDPOINT_FUNCTIONS: options.functionIds.join(',') }),
    ...(options.id === undefined ? {} : { FUNCX_ENDPOINT_ID: options.id }),
    ...confinementOf(layout, name, options),
  };
}

/** True if others may submit to the endpoint once its agent runs. An option that is not given keeps what the service knows. */
async function willBeShared(
  layout: Layout,
  id: string | null | undefined,
  { isPublic, groupId }: StartOptions,
): Promise<boolean> {
  if (isPublic === true || (groupId !== undefined && groupId !== 'none')) return true;
  const isDecided = isPublic === false && groupId === 'none';
  if (isDecided || !id || readState(layout) === undefined) return false;
  const known = await withClient(layout, (client) => client.endpointState(id)).catch((error: unknown) => {
    if (error instanceof FuncXError && error.code === 'ENDPOINT_NOT_FOUND') return undefined;
    throw error;
  });
  return known !== undefined && ((known.public && isPublic !== false) || (Boolean(known.group_id) && groupId !== 'none'));
}

/**
 * If a service runs on this machine, function code that runs as the service's user can read the service's secrets. Function code
 * is therefore separated from them if the agent is root (unless FUNCX_WORKER_USER=same) or if others may submit to it. If
 * separation is not possible, an agent that others may submit to does not start.
 */
function confinementOf(
  layout: Layout,
  name: string,
  { isShared, isIsolated }: { isShared: boolean; isIsolated?: boolean },
): Record<string, string> {
  if (isIsolated === true) {
    const isolation = findIsolation(layout);
    if (!('refusal' in isolation)) return separationVariables(isolation);
    throw new UserError(`Endpoint ${name} was not started: --isolate is not possible, because ${isolation.refusal}.`);
  }
  if (readState(layout) === undefined) return {};
  if (!isShared && (process.getuid?.() !== 0 || isSameUserWanted())) return {};
  const found = findSeparation(layout, cacheDirOf(layout));
  if (!('refusal' in found)) return separationVariables(found);
  if (!isShared) return {};
  throw new UserError(
    `Endpoint ${name} was not shared: its functions would run as the user of the service in ${layout.dataDir} and could read ` +
      `its secrets, because ${found.refusal}. Start the agent as another user, or install bubblewrap.`,
  );
}
