import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findBasePython, type BasePython } from '../../local/processes/python';
import { ensureVenv, CLIENTS } from './python-venv';
import { GLOBUS_REQUIREMENTS } from './stock-globus';

/** Another account of this machine, with no rights: only root may run programs as it. */
export const NOBODY = { name: 'nobody', id: 65_534 };

const asNobody = (command: string, args: readonly string[]): string | undefined => {
  const { status, stdout } = spawnSync(command, args, { uid: NOBODY.id, gid: NOBODY.id, cwd: '/', encoding: 'utf8', env: {} });
  return status === 0 ? stdout.trim() : undefined;
};

/** A Python that this account may run too: the usual one lies in a home folder on some machines. */
function pythonForNobody(): BasePython | undefined {
  const script = 'import ensurepip, platform, venv; print(platform.python_version())';
  for (const path of [findBasePython().path, '/usr/bin/python3']) {
    const version = asNobody(path, ['-c', script]);
    if (version !== undefined) return { path, version };
  }
  return undefined;
}

function whyNotAsNobody(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root may run tasks as another account';
  if (asNobody('id', ['-un']) !== NOBODY.name) return `there is no account ${NOBODY.name} with the id ${NOBODY.id}`;
  return pythonForNobody() === undefined ? `no Python with venv can be run by ${NOBODY.name}` : undefined;
}

/** Undefined: tests may run programs as another account. */
export const NOT_AS_NOBODY = whyNotAsNobody();

/** The released clients where that account can run them. */
export function globusVenvForNobody(): Promise<string> {
  const base = pythonForNobody();
  const isOpen = asNobody('ls', [join(CLIENTS, '..')]) !== undefined;
  return ensureVenv('globus-4.19.0', GLOBUS_REQUIREMENTS, {
    base,
    folder: isOpen ? CLIENTS : join(tmpdir(), 'funcx-test-clients'),
  });
}
