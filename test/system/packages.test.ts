import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { identify } from '../../local/processes/process-identity';
import { findBasePython } from '../../local/processes/python';
import { funcx, state } from '../helpers/system';

/** Which Python an endpoint of `endpoint start` has, and what its user is told. */

const dir = mkdtempSync(join(tmpdir(), 'funcx-packages-'));
const name = `packages-${Date.now().toString(36)}`;
const file = (fileName: string, text: string): string => {
  writeFileSync(join(dir, fileName), text);
  return join(dir, fileName);
};
const agentPython = (): string => state().python ?? '';

afterAll(() => {
  funcx(['endpoint', 'delete', name]);
});

test('a Python without what functions need is refused with the command that installs it', () => {
  const bare = findBasePython().path;
  const refused = funcx(['endpoint', 'start', name, '--python', bare]);
  expect(refused.status).toBe(1);
  expect(refused.stderr).toMatch(/ has no dill.*which functions need\. Run:\n.* -m pip install "globus-compute-sdk==/);
  expect(funcx(['endpoint', 'start', name, '--python', '/nowhere/python']).stderr).toContain(
    'There is no Python /nowhere/python',
  );
  expect(funcx(['endpoint', 'start', name, '--venv', '--requirements', 'x']).stderr).toContain('Give one of --python');
  expect(funcx(['endpoint', 'start', name, '--requirements', '/nowhere']).stderr).toContain('/nowhere cannot be read');
});

test('Python and task folders are remembered, shown, and named when a package is missing', () => {
  const folder = join(agentPython(), '..', '..');
  const started = funcx(['endpoint', 'start', name, '--python', folder, '--task-directories', '--workers', '1']);
  expect(started).toMatchObject({ status: 0 });
  funcx(['endpoint', 'stop', name]);
  expect(funcx(['endpoint', 'start', name, '--workers', '1'])).toMatchObject({ status: 0 });
  const line = new RegExp(`packages +of ${agentPython()}; a folder for each task`);
  expect(funcx(['endpoint', 'status', name]).stdout).toMatch(line);
  const where = file(
    'where.py',
    'import os, sys\n\ndef where():\n    return [sys.executable, os.environ["GC_TASK_SANDBOX_DIR"] == os.getcwd()]\n',
  );
  expect(funcx(['run', where, '--endpoint', name]).stdout).toBe(`["${agentPython()}",true]\n`);
  const missing = file('missing.py', 'def missing():\n    import no_such_package\n');
  const { status, stderr } = funcx(['run', missing, '--endpoint', name]);
  expect(status).toBe(1);
  expect(stderr).toContain("ModuleNotFoundError: No module named 'no_such_package'");
  expect(stderr).toContain(`has no no_such_package. To add it there: ${agentPython()} -m pip install PACKAGE`);
});

test('a ShellFunction warns of its missing sandbox only where tasks have no folders', () => {
  const shell = file(
    'shell.py',
    'def shell():\n    from globus_compute_sdk import ShellFunction\n    return ShellFunction("pwd; true", return_dict=True)()\n',
  );
  const warning = 'sandboxing will not work';
  const [own, local] = [name, 'local'].map((endpoint) => funcx(['run', shell, '--endpoint', endpoint]));
  expect(own).toMatchObject({ status: 0, stdout: expect.stringContaining('returncode') });
  expect(own!.stdout).not.toContain(warning);
  expect(local!.stdout).toContain(warning);
});

test('down names the agents that go on', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'funcx-down-'));
  mkdirSync(join(dataDir, 'endpoints', 'laptop'), { recursive: true });
  writeFileSync(join(dataDir, 'endpoints', 'laptop', 'process.json'), JSON.stringify(identify(process.pid)));
  const { status, stdout } = funcx(['down', '--data-dir', dataDir]);
  expect(status).toBe(0);
  expect(stdout).toContain(`These agents keep running and reconnect when the service is back: laptop (process ${process.pid}).`);
  expect(stdout).toContain('funcx endpoint stop laptop');
});
