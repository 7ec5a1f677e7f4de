import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

/** Stops what start-system started. */
export default function stopSystem(): void {
  const dataDir = process.env.FUNCX_TEST_DATA_DIR;
  if (dataDir === undefined || process.env.FUNCX_TEST_OWNS_SYSTEM !== '1') return;
  stopOwnSystem(dataDir);
  rmSync(dataDir, { recursive: true, force: true });
}

export function stopOwnSystem(dataDir: string): void {
  const root = join(__dirname, '..', '..');
  const { status } = spawnSync(process.execPath, [join(root, 'dist', 'local', 'main.js'), 'down', '--data-dir', dataDir], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) throw new Error(`the system did not stop; its logs are in ${dataDir}/logs`);
}
