import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { findPython } from '../../endpoint/python-environment';
import { skipReason } from '../helpers/conditions';
import { ROOT } from '../helpers/readme';

/** pip refuses a locked file that lacks a package, a hash, or a version for its Python. It downloads, and installs nothing. */

const INSTALL_MS = 180_000;

/** A program of this version: one on the PATH, or one that pyenv built. */
function pythonOf(version: string): string | undefined {
  const builds = join(homedir(), '.pyenv', 'versions');
  const built = existsSync(builds) ? readdirSync(builds).filter((name) => name.startsWith(`${version}.`)) : [];
  const programs = [`python${version}`, ...built.map((name) => join(builds, name, 'bin', 'python'))];
  return programs.map((program) => findPython(program)).find((found) => found?.version.startsWith(`${version}.`))?.path;
}

for (const version of ['3.10', '3.11', '3.12', '3.13']) {
  const python = pythonOf(version);
  const title = `the packages of agents are complete for Python ${version}`;
  const run = python === undefined ? test.skip : test;
  run(
    title + skipReason(python === undefined ? `there is no Python ${version}` : undefined),
    () => {
      const lock = join(ROOT, 'endpoint', 'requirements.lock');
      const dry = ['--dry-run', '--ignore-installed', '--require-hashes', '--quiet', '--disable-pip-version-check'];
      const { status, stderr } = spawnSync(python ?? '', ['-m', 'pip', 'install', ...dry, '-r', lock], { encoding: 'utf8' });
      expect(status === 0 ? '' : stderr).toBe('');
    },
    INSTALL_MS,
  );
}
