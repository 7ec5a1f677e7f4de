import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';

import { anyFreePort } from '../../local/machine/ports';
import { answersReady } from '../../local/supervisor/our-services';
import { until } from './until';

const MAIN = join(__dirname, '..', '..', 'dist', 'workers', 'main.js');
const READY_MS = 60_000;

/** One more `workers` of a system, on a health port of its own; nobody starts it again. Resolves when it is ready. */
export async function startWorkers(variables: Record<string, string>, logsDir: string): Promise<ChildProcess> {
  const port = await anyFreePort(new Set());
  const child = spawn(process.execPath, ['--enable-source-maps', MAIN], {
    env: { ...process.env, ...variables, HEALTH_HOST: '127.0.0.1', HEALTH_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = createWriteStream(join(logsDir, `workers-${port}.log`), { flags: 'a' });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  try {
    await until('the workers are ready', () => answersReady(port), { deadlineMs: READY_MS });
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return child;
}
