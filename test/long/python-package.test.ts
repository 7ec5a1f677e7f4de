import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findBasePython } from '../../local/processes/python';
import { ROOT } from '../helpers/readme';

/** The Python package as people get it: installed with pip into an environment of its own, and used. */

const INSTALL_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'funcx-python-'));
const python = join(folder, 'venv', 'bin', 'python');
afterAll(() => rmSync(folder, { recursive: true }));

function run(command: string, args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: folder });
  expect(status === 0 ? '' : stderr).toBe('');
  return stdout;
}

const USE = `
from concurrent.futures import ThreadPoolExecutor
from funcx_temporal import wait
import funcx_temporal.pipeline

with ThreadPoolExecutor(1) as executor:
    print([future.result() for future in wait([executor.submit(abs, n) for n in (-1, 2)])])
`;

test(
  'pip installs the Python package from its folder, and it shows the progress of futures',
  () => {
    // A copy: pip leaves what it builds beside the sources.
    cpSync(join(ROOT, 'python'), join(folder, 'python'), { recursive: true });
    run(findBasePython().path, ['-m', 'venv', join(folder, 'venv')]);
    run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', './python']);
    expect(run(python, ['-c', USE])).toBe('[1, 2]\n');
  },
  INSTALL_MS,
);
