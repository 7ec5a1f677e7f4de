import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { layoutOf, makeFolders } from '../../local/machine/layout';
import type { Part } from './plan';

/**
 * A file system in memory for the data of each engine, so that the disk of one engine can be full while the others have
 * room. Only root can mount one; elsewhere the fault is skipped.
 */

const LARGE = '3g';
const FILL_TRIES = 50;

export interface SmallDisks {
  fill(part: Part): void;
  empty(part: Part): void;
  /** After the system has stopped. */
  remove(): void;
}

/** Undefined where this machine does not let us; before the system starts for the first time. */
export function mountSmallDisks(dataDir: string): SmallDisks | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const layout = layoutOf(dataDir);
  makeFolders(layout);
  // Where the supervisor puts PostgreSQL when the data folder is out of the reach of its user: then a folder of its own.
  const place = 'chaos';
  writeFileSync(join(layout.secretsDir, 'postgres-place'), place, { mode: 0o600 });
  const folders: Partial<Record<Part, string>> = {
    postgres: join('/var/lib/funcx', `${layout.hash}-${place}`),
    temporal: layout.temporalDir,
    rabbitmq: layout.rabbitmqDir,
  };
  const mounted: string[] = [];
  for (const [part, folder] of Object.entries(folders)) {
    mkdirSync(folder, { recursive: true });
    if (!mount(`size=${LARGE},mode=${part === 'postgres' ? '711' : '700'}`, folder)) {
      unmount(mounted);
      return undefined;
    }
    mounted.push(folder);
  }

  const folderOf = (part: Part): string => {
    const folder = folders[part];
    if (folder === undefined) throw new Error(`${part} has no disk of its own`);
    return folder;
  };
  return {
    fill(part) {
      const folder = folderOf(part);
      // A size below what is used is refused, and the engine may write between the look and the change.
      for (let tries = 1; tries <= FILL_TRIES; tries++) {
        const { blocks, bfree, bsize } = statfsSync(folder);
        if (mount(`remount,size=${(blocks - bfree) * bsize}`, folder)) return;
      }
      throw new Error(`the disk of ${part} could not be filled`);
    },
    empty(part) {
      if (!mount(`remount,size=${LARGE}`, folderOf(part))) throw new Error(`the disk of ${part} could not be emptied`);
    },
    remove() {
      unmount(mounted);
      rmdirSync(folderOf('postgres'));
    },
  };
}

function mount(options: string, folder: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { stdio: 'ignore' }).status === 0;
}

function unmount(folders: readonly string[]): void {
  for (const folder of folders) spawnSync('umount', [folder], { stdio: 'inherit' });
}
