import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { findBasePython, type BasePython } from '../../local/processes/python';
import { finished } from './own-loopback';
import { until } from './until';

/** Virtual environments with the released clients, made once and kept under `.cache`. */

export const CLIENTS = join(__dirname, '..', '..', '.cache', 'clients');
const INSTALL_MS = 300_000;

export interface VenvPlace {
  base: BasePython;
  folder: string;
}

/** Makes the environment where it is missing and returns its `bin`. Requirements as for pip, pinned. */
export async function ensureVenv(name: string, requirements: string[], place: Partial<VenvPlace> = {}): Promise<string> {
  const { base = findBasePython(), folder = CLIENTS } = place;
  const hash = createHash('sha256')
    .update([base.path, base.version, ...requirements].join('\n'))
    .digest('hex')
    .slice(0, 12);
  const target = join(folder, `${name}-${base.version}-${hash}`);
  const done = join(target, 'installed');
  if (existsSync(done)) return join(target, 'bin');
  mkdirSync(folder, { recursive: true });
  // Scripts of an environment name its folder, so it can't be made elsewhere and renamed: a lock instead.
  const lock = `${target}.lock`;
  await until(`the environment ${name} is made by somebody else`, () => (existsSync(done) || takeLock(lock) ? true : undefined), {
    deadlineMs: INSTALL_MS,
  });
  if (existsSync(done)) return join(target, 'bin');
  try {
    rmSync(target, { recursive: true, force: true });
    await run(base.path, ['-m', 'venv', target]);
    await run(join(target, 'bin', 'python'), [
      '-m',
      'pip',
      'install',
      '-q',
      '--no-input',
      '--disable-pip-version-check',
      ...requirements,
    ]);
    writeFileSync(done, requirements.join('\n'));
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
  return join(target, 'bin');
}

function takeLock(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch {
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > INSTALL_MS) rmSync(path, { recursive: true, force: true }); // its maker was killed
    return false;
  }
}

async function run(command: string, args: string[]): Promise<void> {
  const { status, stderr } = await finished(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }), INSTALL_MS);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stderr.slice(-2_000)}`);
}
