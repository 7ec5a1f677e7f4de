import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { funcx } from '../helpers/system';

/** Environments that `endpoint start` makes; each is an installation from the package index. */

const name = `made-${Date.now().toString(36)}`;
const dir = mkdtempSync(join(tmpdir(), 'funcx-made-'));
const INSTALL_MS = 300_000;

afterAll(() => {
  funcx(['endpoint', 'delete', name]);
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
