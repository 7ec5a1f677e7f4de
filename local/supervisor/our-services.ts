import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { writeJson } from '../machine/files';
import { logFileOf, REPOSITORY } from '../machine/layout';
import { UserError } from '../machine/user-error';
import { ManagedProcess, type ManagedProcessOptions } from '../processes/managed-process';
import { SERVICE_VARIABLES } from '../setup/agent-folder';
import { TEMPORAL_SECURITY } from '../setup/environment';

import type { Layout } from '../machine/layout';
import type { ReplicaName, StartContext } from '../processes/start-context';

const READY_MS = 60_000;
const STOP_MS = 30_000;
const ASK_MS = 3_000;

export type OurService = 'api' | 'workers' | 'endpoint';

export const envFileOf = (layout: Layout, name: OurService): string => join(layout.runDir, `${name}.env.json`);

/** Starts `dist/<name>/main.js`. Also writes the added environment variables to a file, for debugging. */
export async function startOurs(
  replica: ReplicaName,
  variables: Record<string, string>,
  isReady: ManagedProcessOptions['isReady'],
  context: StartContext,
): Promise<ManagedProcess> {
  const name = replica.replace(/-\d+$/, '') as OurService;
  const entry = join(REPOSITORY, 'dist', name, 'main.js');
  if (!existsSync(entry)) throw new UserError(`${entry} is missing; run "npm run build".`);
  if (replica === name) writeJson(envFileOf(context.layout, name), variables);
  const isKept = (key: string): boolean => !(name === 'endpoint' ? SERVICE_VARIABLES : TEMPORAL_SECURITY).test(key);
  const inherited = Object.entries(process.env).filter(([key]) => isKept(key));
  const managed = new ManagedProcess({
    name: replica,
    program: {
      command: process.execPath,
      args: ['--enable-source-maps', entry],
      env: { ...Object.fromEntries(inherited), ...variables },
      cwd: name === 'endpoint' ? variables.FUNCX_ENDPOINT_DIR : context.layout.dataDir,
    },
    log: logFileOf(context.layout, replica),
    isReady,
    readyWithinMs: READY_MS,
    stopWithinMs: STOP_MS,
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
  await managed.start(context.signal);
  return managed;
}

export async function answersReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(ASK_MS) });
  await answer.arrayBuffer();
  return answer.status === 200;
}
