import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { codeBlocks, readPage, ROOT } from '../helpers/readme';
import { dataDir, funcx } from '../helpers/system';

/** What the pages for people install from registries, as they are written. */

const INSTALL_MS = 400_000;
const folder = mkdtempSync(join(tmpdir(), 'funcx-install-'));
const checkout = join(folder, 'checkout');
const home = join(folder, 'home');
const name = `installed-${Date.now().toString(36)}`;

beforeAll(() => {
  mkdirSync(home);
  mkdirSync(checkout);
  // The packages are packed from the repository; what a reader adds to it lands here.
  for (const entry of readdirSync(ROOT)) {
    if (entry !== 'examples' && !entry.endsWith('.tgz')) symlinkSync(join(ROOT, entry), join(checkout, entry));
  }
  cpSync(join(ROOT, 'examples', 'typescript-starter'), join(checkout, 'examples', 'typescript-starter'), { recursive: true });
});
afterAll(() => {
  shell('~/.local/bin/funcx-endpoint stop');
  funcx(['endpoint', 'delete', name]);
  rmSync(folder, { recursive: true });
});

function shell(code: string, cwd = home): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', code], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, HOME: home, FUNCX_DATA_DIR: dataDir() },
  });
  if (status !== 0) throw new Error(`${code}\nended with ${status}:\n${stdout}\n${stderr}`);
  return stdout;
}

const pack = (workspace: string): void =>
  void shell(`npm pack --silent --workspace ${workspace} --pack-destination ${checkout}`, ROOT);

test(
  'the template of the TypeScript quickstart is installed, compiled and run as the page says',
  () => {
    pack('sdk');
    const blocks = codeBlocks(readPage('docs/quickstart-typescript.md'));
    const [install = '', start = ''] = blocks.filter(({ language }) => language === 'sh').map(({ code }) => code);
    expect(install.split('\n')[0]).toBe('npm pack --workspace sdk');
    const commands = [...install.split('\n').slice(1), start].join('\n');
    const promised = blocks.find(({ language }) => language === 'text')?.code;
    expect(shell(commands, checkout)).toContain(promised);
  },
  INSTALL_MS,
);

test(
  'an agent that makes its own Python environment serves a function, as the page on other machines says',
  () => {
    pack('endpoint');
    const { code } = JSON.parse(funcx(['endpoint', 'invite', name, '--json']).stdout) as { code: string };
    shell(`cp ${checkout}/funcx-temporal-endpoint-*.tgz ~`);
    shell('npm install --global --prefix ~/.local ./funcx-temporal-endpoint-*.tgz');
    expect(shell(`~/.local/bin/funcx-endpoint enroll ${code} --workers 1`)).toContain(`a Python environment in ${home}`);
    shell(`printf 'def add(a, b):\\n    return a + b\\n' > add.py`);
    expect(funcx(['run', `${home}/add.py:add`, '--endpoint', name, '--args', '[1, 2]']).stdout).toBe('3\n');
  },
  INSTALL_MS,
);
