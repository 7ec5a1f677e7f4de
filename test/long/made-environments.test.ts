import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { funcx } from '../helpers/system';

/** Environments that `endpoint start` makes; each is an installation from the package index. */

const name = `made-${Date.now().toString(36)}`;
const own = `own-${Date.now().toString(36)}`;
const dir = mkdtempSync(join(tmpdir(), 'funcx-made-'));
const INSTALL_MS = 300_000;

afterAll(() => {
  for (const endpoint of [name, own]) funcx(['endpoint', 'delete', endpoint]);
});

test(
  'the packages of a requirements file are there, also those of a line that was added later',
  () => {
    const requirements = join(dir, 'requirements.txt');
    const uses = join(dir, 'uses.py');
    writeFileSync(uses, 'def uses():\n    import iniconfig\n    return iniconfig.__name__\n');
    writeFileSync(requirements, '# nothing yet\n');
    expect(funcx(['endpoint', 'start', name, '--requirements', requirements, '--workers', '1'], {}, INSTALL_MS).status).toBe(0);
    expect(funcx(['run', uses, '--endpoint', name]).stderr).toContain(
      `has no iniconfig. To add it there: add it to ${requirements}`,
    );
    writeFileSync(requirements, 'iniconfig\n');
    funcx(['endpoint', 'stop', name]);
    expect(funcx(['endpoint', 'start', name, '--workers', '1'], {}, INSTALL_MS).status).toBe(0);
    expect(funcx(['run', uses, '--endpoint', name]).stdout).toBe('iniconfig\n');
  },
  INSTALL_MS * 2,
);

test(
  'an environment of its own takes the packages that its user installs there',
  () => {
    const uses = join(dir, 'own.py');
    writeFileSync(uses, 'def own():\n    import iniconfig\n    return iniconfig.__name__\n');
    const started = funcx(['endpoint', 'start', own, '--venv', '--workers', '1'], {}, INSTALL_MS);
    expect(started).toMatchObject({ status: 0 });
    const { status, stderr } = funcx(['run', uses, '--endpoint', own]);
    expect(status).toBe(1);
    const [, python = ''] = /has no iniconfig\. To add it there: (\S+) -m pip install PACKAGE/.exec(stderr) ?? [];
    expect(python).toContain(`venv-${own}`);
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', 'iniconfig'], { stdio: 'pipe' });
    funcx(['endpoint', 'stop', own]);
    expect(funcx(['endpoint', 'start', own, '--workers', '1'], {}, INSTALL_MS).status).toBe(0);
    expect(funcx(['run', uses, '--endpoint', own]).stdout).toBe('iniconfig\n');
  },
  INSTALL_MS * 2,
);
