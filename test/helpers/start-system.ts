import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { stopOwnSystem } from './stop-system';

/** Starts one system of real parts for all files of a layer, on ports of its own, beside whatever runs already. */
export default function startSystem(): void {
  if (process.env.FUNCX_TEST_DATA_DIR !== undefined) return; // a system that somebody keeps running between test runs
  const dataDir = mkdtempSync(join(tmpdir(), 'funcx-system-'));
  const root = join(__dirname, '..', '..');
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'dist', 'local', 'main.js'), 'up', '--detach', '--private-ports', '--data-dir', dataDir],
    {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: {
        ...process.env,
        // Large enough that tests can rely on it, small enough that a lost heartbeat is noticed soon.
        FUNCX_HEARTBEAT_PERIOD_S: '1',
        // Functions of tests write into private folders of the tests; agent-rights.test.ts has a system with the default.
        FUNCX_WORKER_USER: 'same',
      },
    },
  );
  process.env.FUNCX_TEST_DATA_DIR = dataDir;
  process.env.FUNCX_TEST_OWNS_SYSTEM = '1';
  if (status !== 0) {
    stopOwnSystem(dataDir); // jest does not call it after a failed start
    throw new Error(`the system did not start; its logs are in ${dataDir}/logs`);
  }
}
