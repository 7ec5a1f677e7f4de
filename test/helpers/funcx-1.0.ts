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
 * Runs a Python script with a client (`fxc`) that is told the addresses. It ends without its exit handlers: those of
 * the client can block for ever when more than one result came over one connection.
 */
export async function runScript(
  bin: string,
  script: string,
  options: { credentials?: Credentials; apiUrl?: string; wsUrl?: string; deadlineMs?: number } = {},
): Promise<Finished> {
  const { api_url, ws_url } = state();
  const apiUrl = options.apiUrl ?? api_url;
  const program = [
    'import os, sys, time, json',
    'from funcx import FuncXClient, FuncXExecutor',
    `address = dict(funcx_service_address="${apiUrl}/v2", results_ws_uri="${options.wsUrl ?? ws_url}/v2")`,
    'fxc = FuncXClient(**address)',
    `endpoint = "${TUTORIAL_ENDPOINT}"`,
    script,
    'sys.stdout.flush(); sys.stderr.flush(); os._exit(0)',
  ].join('\n');
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-script-')), 'script.py');
  writeFileSync(file, program);
  const env = { ...clientEnv(options.credentials), GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/` };
  return finished(spawn(join(bin, 'python'), [file], { env, stdio: ['ignore', 'pipe', 'pipe'] }), options.deadlineMs ?? 60_000);
}
