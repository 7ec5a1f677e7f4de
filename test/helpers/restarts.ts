import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { dataDir, funcx, killAndWait, pidOf, state } from './system';
import { until } from './until';

/** Restarts of everything at once, engines included, and what the processes weigh. */

const MAIN = join(__dirname, '..', '..', 'dist', 'local', 'main.js');
const BACK_MS = 120_000;
const WEIGHED = ['api', 'workers', 'rabbitmq'] as const;

export type ResidentMb = Record<(typeof WEIGHED)[number], number>;

/** Kills every process with -9 in one moment, and waits until the supervisor's next ones are ready. */
export async function killEverything(): Promise<void> {
  const before = new Map(state().services.map(({ name, pid }) => [name, pid]));
  for (const pid of before.values()) if (pid !== null) process.kill(pid, 'SIGKILL');
  await until(
    'everything runs again',
    () => state().services.every(({ name, pid, state: now }) => pid !== null && pid !== before.get(name) && now === 'ready'),
    { deadlineMs: BACK_MS },
  );
  await untilHealthy();
  // What they tried while the engines were still away is part of their memory, and a matter of chance: once more.
  for (const name of ['workers', 'api'] as const) await killAndWait(name);
  await untilHealthy();
}

/** Ends the system in order, and starts it again. */
export async function restartEverything(): Promise<void> {
  run('down', '--data-dir', dataDir());
  run('up', '--detach', '--private-ports', '--data-dir', dataDir());
  await untilHealthy();
}

function run(...args: string[]): void {
  const env = { ...process.env, FUNCX_HEARTBEAT_PERIOD_S: '1' }; // as at its first start
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`funcx ${args[0]} failed: ${stdout}${stderr}`);
}

async function untilHealthy(): Promise<void> {
  await until('every part is healthy', () => funcx(['status']).status === 0, { deadlineMs: BACK_MS, everyMs: 500 });
}

/** Resident memory, once it does not move any more. */
export async function readResidentMb(): Promise<ResidentMb> {
  let last = sample();
  return until(
    'the memory of the processes settles',
    () => {
      const now = sample();
      const moved = Math.max(...WEIGHED.map((name) => Math.abs(now[name] - last[name])));
      last = now;
      return moved <= 1 ? now : undefined;
    },
    { deadlineMs: BACK_MS, everyMs: 3_000 },
  );
}

function sample(): ResidentMb {
  const of = (name: (typeof WEIGHED)[number]): number => {
    const status = readFileSync(`/proc/${pidOf(name)}/status`, 'utf8');
    return Math.round(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024);
  };
  return { api: of('api'), workers: of('workers'), rabbitmq: of('rabbitmq') };
}
