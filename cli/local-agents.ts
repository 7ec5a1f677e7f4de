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

import { findAgentPython, readSettings, rememberSettings, settingsWith, type SettingOptions } from './agent-settings';

import type { Connection } from './connection';

/**
 * Agents on this machine beside the one that `up` starts: each has a folder `endpoints/<name>` in the data folder, with its
 * id, its log and the process that runs there. They outlive the command that started them.
 */

export interface LocalAgent {
  name: string;
  dir: string;
  /** Null before its first registration. */
  id: string | null;
  /** Null while it does not run. */
  pid: number | null;
  /** Started by `up`, and stopped by `down`. */
  isSystems: boolean;
}

export interface StartOptions extends SettingOptions {
  id?: string;
  /** Undefined: as before, at first private. */
  isPublic?: boolean;
  groupId?: string;
  functionIds?: string[];
  workers?: number;
  /** Every worker has a sandbox of its own. */
  isIsolated?: boolean;
}

const READY_MS = 60_000;
const POLL_MS = 50;
/** The agent lets running calls finish for 30 s. */
const STOP_MS = 40_000;
const KILL_MS = 5_000;

/** It also names a folder. */
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

/** Starts an agent and waits until it is connected; an agent that runs already is left as it is. */
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

  const settings = settingsWith(readSettings(endpointDirOf(layout, name)), options);
  const python = await findAgentPython(layout, name, settings.python);
  const dir = makeEndpointDir(layout, name);
  rememberSettings(dir, settings);
  const settled = {
    FUNCX_PYTHON: python.path,
    FUNCX_PACKAGE_ADVICE: python.advice,
    FUNCX_SANDBOX: settings.taskDirectories === true ? '1' : (process.env.FUNCX_SANDBOX ?? '0'),
  };
  const variables = variablesOf(layout, connection, name, dir, options);
  const output = openSync(agentLog(dir), 'a', 0o600);
  const child = spawn(process.execPath, ['--enable-source-maps', join(REPOSITORY, 'dist', 'endpoint', 'main.js')], {
    cwd: dir,
    // User functions can read the agent's environment: nothing of the engines is in it.
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
        `The agent of endpoint ${name} ended (${exit ?? 'at once'}). From ${agentLog(dir)}:\n  ${tailOf(agentLog(dir), 4)}`,
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

/** Why the agent takes no tasks, from its `status.json`. Its first worker may need a moment: that is no problem yet. */
function problemOf(dir: string, pid: number): string | undefined {
  const status = readJson(join(dir, 'status.json')) as { pid?: number; problem?: string; is_starting?: boolean } | undefined;
  return status?.pid === pid && !status.is_starting ? status.problem : undefined;
}

/** Stops an agent: it finishes what runs; false when it did not run. */
export async function stopAgent(agent: LocalAgent): Promise<boolean> {
  if (agent.isSystems)
    throw new UserError(`The endpoint ${agent.name} belongs to the system; it is stopped with all of it, by "funcx down".`);
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
  options: StartOptions,
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

/**
 * Beside a service on this machine, function code that runs as the service's user can read the service's secrets: it runs
 * apart where the agent is root, and an agent that others may submit to does not start otherwise.
 */
function confinementOf(layout: Layout, name: string, { isPublic, groupId, isIsolated }: StartOptions): Record<string, string> {
  if (isIsolated === true) {
    const isolation = findIsolation(layout);
    if (!('refusal' in isolation)) return separationVariables(isolation);
    throw new UserError(`Endpoint ${name} was not started: --isolate is not possible, because ${isolation.refusal}.`);
  }
  if (readState(layout) === undefined) return {};
  const isShared = isPublic === true || (groupId !== undefined && groupId !== 'none');
  if (!isShared && (process.getuid?.() !== 0 || isSameUserWanted())) return {};
  const found = findSeparation(layout, cacheDirOf(layout));
  if (!('refusal' in found)) return separationVariables(found);
  if (!isShared) return {};
  throw new UserError(
    `Endpoint ${name} was not shared: its functions would run as the user of the service in ${layout.dataDir} and could read ` +
      `its secrets, because ${found.refusal}. Start the agent as another user, or install bubblewrap.`,
  );
}
