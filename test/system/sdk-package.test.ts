import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { admin, state } from '../helpers/system';

const ROOT = join(__dirname, '..', '..');
/** What an installation would bring beside it. */
const DEPENDENCIES = ['amqplib', 'zod', 'typescript', '@types/node', 'undici-types', 'buffer-more-ints'];

/** Packs a workspace and lays it into an empty project, as its installation would. */
function installPacked(workspace: string): string {
  const project = mkdtempSync(join(tmpdir(), `funcx-packed-${workspace}-`));
  const modules = join(project, 'node_modules');
  const target = join(modules, '@funcx-temporal', workspace);
  mkdirSync(target, { recursive: true });
  mkdirSync(join(modules, '@types'));
  const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', project], {
    cwd: join(ROOT, workspace),
    encoding: 'utf8',
  });
  const [archive] = /funcx-temporal-[\w.-]+\.tgz/.exec(packed) ?? [];
  execFileSync('tar', ['-xzf', join(project, archive ?? ''), '--strip-components=1', '-C', target]);
  for (const name of DEPENDENCIES) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  writeFileSync(join(project, 'package.json'), '{ "name": "user", "type": "commonjs" }\n');
  return project;
}

test('the packed sdk type-checks in an empty project, and the example of its README prints what it says', () => {
  const project = installPacked('sdk');
  const readme = readFileSync(join(project, 'node_modules', '@funcx-temporal', 'sdk', 'README.md'), 'utf8');
  const example = /```ts\n([^]*?)```/.exec(readme)?.[1] ?? '';
  const promised = [...example.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map((match) => match[1]);
  expect(promised.length).toBeGreaterThan(3);
  writeFileSync(join(project, 'example.ts'), example);
  const strict = [
    '--strict',
    '--module',
    'node16',
    '--target',
    'es2022',
    '--lib',
    'es2022',
    '--types',
    'node',
    '--skipLibCheck',
    'false',
  ];
  try {
    execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', ...strict, 'example.ts'], {
      cwd: project,
      encoding: 'utf8',
    });
  } catch (error) {
    throw new Error((error as { stdout: string }).stdout, { cause: error });
  }

  const printed = execFileSync(process.execPath, ['example.js'], {
    cwd: project,
    encoding: 'utf8',
    env: {
      ...process.env,
      FUNCX_API_URL: state().api_url,
      FUNCX_CLIENT_ID: admin().client_id,
      FUNCX_CLIENT_SECRET: admin().client_secret,
    },
  });
  expect(printed.trim().split('\n')).toEqual(promised);
  rmSync(project, { recursive: true });
});
