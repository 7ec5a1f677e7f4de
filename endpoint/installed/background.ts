import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { TerminalError } from '../../contracts/errors';
import { readAgentStatus, runningAgent } from '../state-dir';

import { authorityFileOf, dirOf, logOf, readIdentity, readSettings } from './folders';
import { ensurePython } from './python';

/** Runs the agent of one endpoint as a background process, or prepares the environment to run it in this process. */

const READY_MS = 60_000;
const POLL_MS = 50;
/** The agent lets running calls finish for 30 s. */
const STOP_MS = 40_000;
const KILL_MS = 5_000;
const SHOWN_LINES = 4;

export const adviceWhenRefused = (name: string): string =>
  `If the service no longer knows this agent, ask the owner of the endpoint to run "funcx endpoint invite ${name}", and enrol with the code.`;

/** Returns the environment that `run-agent` reads. Keeps variables that the user set, such as limits. */
export function environmentOf(name: string, say: (text: string) => void): NodeJS.ProcessEnv {
  const identity = readIdentity(name);
  if (identity === undefined) throw new Error(`${dirOf(name)} has no identity`); // the caller has checked it
  const settings = readSettings(name);
  const python = ensurePython(name, settings, say);
  const authority = authorityFileOf(name);
  return {
    ...process.env,
    FUNCX_API_URL: identity.api_url,
    FUNCX_CLIENT_ID: identity.client_id,
    FUNCX_CLIENT_SECRET: identity.client_secret,
    FUNCX_CA: fs.existsSync(authority) ? authority : undefined,
    FUNCX_ENDPOINT_NAME: name,
    FUNCX_ENDPOINT_ID: identity.endpoint_id,
    FUNCX_ENDPOINT_DIR: dirOf(name),
    FUNCX_PYTHON: python.path,
    FUNCX_PACKAGE_ADVICE: python.advice,
    ...(settings.workers === undefined ? {} : { FUNCX_WORKERS: String(settings.workers) }),
  };
}

/** Starts the agent and waits until it is connected. Returns its process ID, or undefined if it was already running. */
export async function startInBackground(name: string, say: (text: string) => void): Promise<number | undefined> {
  const dir = dirOf(name);
  if (runningAgent(dir) !== undefined) return undefined;
  const env = environmentOf(name, say);
  const output = fs.openSync(logOf(name), 'a', 0o600);
  const child = spawn(process.execPath, [path.join(__dirname, '..', 'main.js')], {
    cwd: dir,
    env,
    stdio: ['ignore', output, output],
    detached: true,
  });
  fs.closeSync(output);
  let exit: string | undefined;
  child.once('exit', (code, signal) => (exit = signal ?? `exit code ${code}`)).once('error', (error) => (exit = error.message));
  for (const deadline = Date.now() + READY_MS; ; await sleep(POLL_MS)) {
    if (exit !== undefined) {
      throw new TerminalError(
        'UNAVAILABLE',
        `The agent of endpoint ${name} ended (${exit}). From ${logOf(name)}:\n${tailOf(logOf(name))}\n${adviceWhenRefused(name)}`,
      );
    }
    const status = readAgentStatus(dir);
    if (status?.pid === child.pid && status?.state === 'connected' && !status.is_starting && !status.problem) break;
    const problem = status?.pid === child.pid && !status?.is_starting ? status?.problem : undefined;
    if (problem === undefined && Date.now() < deadline) continue;
    child.kill('SIGTERM');
    const reason = problem ?? `it was not connected after ${READY_MS / 1000} s; see ${logOf(name)}`;
    throw new TerminalError('UNAVAILABLE', `The agent of endpoint ${name} cannot run functions: ${reason}`);
  }
  child.unref();
  return child.pid;
}

/** Stops the agent, which first finishes running calls. Returns false if the agent was not running on this machine. */
export async function stopInBackground(name: string): Promise<boolean> {
  const pid = runningAgent(dirOf(name));
  if (pid === undefined) return false;
  process.kill(pid, 'SIGTERM');
  if (!(await isGone(name, STOP_MS))) {
    process.kill(pid, 'SIGKILL');
    await isGone(name, KILL_MS);
  }
  return true;
}

async function isGone(name: string, ms: number): Promise<boolean> {
  for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(POLL_MS)) {
    if (runningAgent(dirOf(name)) === undefined) return true;
  }
  return false;
}

function tailOf(file: string): string {
  const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(-SHOWN_LINES);
  return lines.map((line) => `  ${line}`).join('\n');
}
