import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { codeBlocks, readPage, ROOT } from '../helpers/readme';
import { admin, state } from '../helpers/system';

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

let project: string;
beforeAll(() => {
  project = installPacked('sdk');
});
afterAll(() => rmSync(project, { recursive: true }));

function compile(...args: string[]): void {
  try {
    execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', ...args], { cwd: project, encoding: 'utf8' });
  } catch (error) {
    throw new Error((error as { stdout: string }).stdout, { cause: error });
  }
}

function run(file: string): string {
  const { client_id, client_secret } = admin();
  const env = {
    ...process.env,
    FUNCX_API_URL: state().api_url,
    FUNCX_CLIENT_ID: client_id,
    FUNCX_CLIENT_SECRET: client_secret,
  };
  return execFileSync(process.execPath, [file], { cwd: project, encoding: 'utf8', env });
}

test('the packed sdk type-checks in an empty project, and the example of its README prints what it says', () => {
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
  compile(...strict, 'example.ts');
  expect(run('example.js').trim().split('\n')).toEqual(promised);
});

test('the TypeScript template compiles with plain tsc, and prints what its quickstart says', () => {
  for (const name of ['main.ts', 'tsconfig.json']) {
    copyFileSync(join(ROOT, 'examples', 'typescript-starter', name), join(project, name));
  }
  rmSync(join(project, 'example.ts'), { force: true });
  compile();
  const promised = codeBlocks(readPage('docs/quickstart-typescript.md')).find(({ language }) => language === 'text');
  expect(run('main.js').trim()).toBe(promised?.code);
});
