import { spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { OwnLoopback, finished, type Finished } from './own-loopback';
import { ensureVenv } from './python-venv';
import { admin, state, type Credentials } from './system';

/** The released funcX 1.0 clients against the system of the tests. */

export const TUTORIAL_ENDPOINT = '4b116d3c-1703-4f8f-9f6f-39921e5864df';

export const sdk104 = (): Promise<string> => ensureVenv('funcx-sdk-1.0.4', ['funcx==1.0.4']);

/** What `funcx env --client funcx-1.0` prints, for a system on the usual ports, and a home of its own. */
export function clientEnv(credentials: Credentials = admin()): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: mkdtempSync(join(tmpdir(), 'funcx-home-')),
    FUNCX_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: 'http://localhost:5000/',
    GLOBUS_SDK_SERVICE_URL_SEARCH: 'http://localhost:5000/',
    FUNCX_SDK_CLIENT_ID: credentials.client_id,
    FUNCX_SDK_CLIENT_SECRET: credentials.client_secret,
  };
}

/** The usual ports of the service, as these clients have them hard-wired, and the broker's as registrations name it. */
export function usualPorts(): Promise<OwnLoopback> {
  const { api, ws, amqps } = state().ports;
  return OwnLoopback.open({ 5000: api, 6000: ws, [amqps]: amqps });
}

/**
 * A file with a Python script that has a client (`fxc`) which is told the addresses. It ends without its exit handlers:
 * those of the client can block for ever when more than one result came over one connection.
 */
export function scriptFile(script: string, apiUrl = state().api_url, wsUrl = state().ws_url): string {
  const program = [
    'import os, sys, time, json',
    'from funcx import FuncXClient, FuncXExecutor',
    `address = dict(funcx_service_address="${apiUrl}/v2", results_ws_uri="${wsUrl}/v2")`,
    'fxc = FuncXClient(**address)',
    `endpoint = "${TUTORIAL_ENDPOINT}"`,
    script,
    'sys.stdout.flush(); sys.stderr.flush(); os._exit(0)',
  ].join('\n');
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-script-')), 'script.py');
  writeFileSync(file, program);
  return file;
}

export function runScript(
  bin: string,
  script: string,
  options: { credentials?: Credentials; deadlineMs?: number } = {},
): Promise<Finished> {
  const env = {
    ...clientEnv(options.credentials),
    GLOBUS_SDK_SERVICE_URL_AUTH: `${state().api_url}/`,
    GLOBUS_SDK_SERVICE_URL_SEARCH: `${state().api_url}/`,
  };
  const child = spawn(join(bin, 'python'), [scriptFile(script)], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  return finished(child, options.deadlineMs ?? 60_000);
}
