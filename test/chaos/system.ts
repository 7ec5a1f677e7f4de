import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { mountSmallDisks, type SmallDisks } from './small-disks';

/** The system of a run: its own data folder, its own ports, and disks that can be filled. */

export interface ChaosSystem {
  dataDir: string;
  disks: SmallDisks | undefined;
  /** Where the submitters write their logs; kept beside the logs of the parts when the run has failed. */
  submittersDir: string;
  start(): void;
  /** Stops everything. Returns the folder with the logs when they are kept. */
  stop(keepLogs: boolean): string | undefined;
}

const ROOT = join(__dirname, '..', '..');
const MAIN = join(ROOT, 'dist', 'local', 'main.js');
/** Noticed within seconds, and long enough that a part which is away for a moment takes no endpoint offline. */
const HEARTBEAT_S = '2';
/** More than this machine has cores, so that slow calls do not hold up the others. */
const AGENT_WORKERS = '4';

/** Makes the folders; `needsDisks`: the plan fills disks. */
export function prepareSystem(needsDisks: boolean): ChaosSystem {
  const dataDir = mkdtempSync(join(tmpdir(), 'funcx-chaos-'));
  const submittersDir = mkdtempSync(join(tmpdir(), 'funcx-chaos-submitters-'));
  const disks = needsDisks ? mountSmallDisks(dataDir) : undefined;
  return {
    dataDir,
    disks,
    submittersDir,
    start() {
      const args = ['up', '--detach', '--private-ports', '--data-dir', dataDir];
      const env = { ...process.env, FUNCX_HEARTBEAT_PERIOD_S: HEARTBEAT_S, FUNCX_WORKERS: AGENT_WORKERS };
      const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { cwd: ROOT, encoding: 'utf8', env });
      if (status !== 0) throw new Error(`the system did not start:\n${stdout}${stderr}`);
    },
    stop(keepLogs) {
      spawnSync(process.execPath, [MAIN, 'down', '--data-dir', dataDir], { cwd: ROOT, stdio: 'ignore' });
      disks?.remove();
      if (!keepLogs) {
        for (const folder of [dataDir, submittersDir]) rmSync(folder, { recursive: true, force: true });
        return undefined;
      }
      for (const name of readdirSync(dataDir).filter((name) => name !== 'logs')) {
        rmSync(join(dataDir, name), { recursive: true, force: true });
      }
      return join(dataDir, 'logs');
    },
  };
}
