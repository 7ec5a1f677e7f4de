import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { authorEnv, Program } from '../helpers/pipelines';

/** The package as an author gets it: the packed archive in an empty project, everything else from the registry. */

const ROOT = join(__dirname, '..', '..');
const project = mkdtempSync(join(tmpdir(), 'funcx-author-project-'));
/** Temporal's own types need those of `ms`, which it does not bring. */
const TOOLS = ['typescript@6', '@types/node@20', '@types/ms', 'publint@0.3.25', '@arethetypeswrong/cli@0.18.5'];
/** The package is compiled, and about a hundred packages are installed. */
const INSTALL_MS = 300_000;
/** Temporal's types are many. */
const COMPILE_MS = 240_000;

let archive: string;
/** The three files of the README's pipeline, by name. */
const files = new Map<string, string>();

beforeAll(() => {
  execFileSync('npm', ['pack', '--pack-destination', project], { cwd: join(ROOT, 'sdk'), stdio: 'ignore' });
  [archive = ''] = readdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "author", "private": true, "type": "commonjs" }\n');
  const [, section = ''] = readFileSync(join(ROOT, 'sdk', 'README.md'), 'utf8').split('\n## Pipelines\n');
  const wanted = /npm install (@.*)/.exec(section)?.[1]?.split(' ') ?? [];
  const packages = wanted.map((name) => (name === '@funcx-temporal/sdk' ? `./${archive}` : name));
  run('npm', ['install', '--no-audit', '--no-fund', ...packages, ...TOOLS]);
  for (const [, name = '', text = ''] of section.matchAll(/```ts\n\/\/ (\w+\.ts)\n([^]*?)```/g)) {
    files.set(name, text);
    writeFileSync(join(project, name), text);
  }
}, INSTALL_MS);

afterAll(() => rmSync(project, { recursive: true }));

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: project, encoding: 'utf8', env: authorEnv() });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}\n${stderr}`);
  return stdout;
}

const tool = (name: string, args: readonly string[]): string => run(join(project, 'node_modules', '.bin', name), args);
const compile = (...options: string[]): string =>
  tool('tsc', ['--strict', '--target', 'es2022', '--types', 'node', '--skipLibCheck', 'false', ...options, ...files.keys()]);

test('the installed package holds compiled code and its types for each entry point', () => {
  expect(tool('publint', ['--strict', 'node_modules/@funcx-temporal/sdk'])).toContain('All good!');
  expect(tool('attw', ['--no-color', archive])).toContain('No problems found');
});

test(
  'the pipeline of its README type-checks as a Node project and as one for a bundler',
  () => {
    expect([...files.keys()]).toEqual(['workflows.ts', 'worker.ts', 'start.ts']);
    compile('--noEmit', '--module', 'node16', '--moduleResolution', 'node16');
    compile('--noEmit', '--module', 'esnext', '--moduleResolution', 'bundler');
  },
  COMPILE_MS,
);

test(
  'the pipeline of its README runs from three files and prints what it says',
  async () => {
    compile('--module', 'node16');
    const promised = /console\.log\(.*\/\/ (.*)$/m.exec(files.get('start.ts') ?? '')?.[1];
    const worker = new Program(process.execPath, [join(project, 'worker.js')]).start();
    try {
      expect(run(process.execPath, ['start.js'])).toBe(`${promised}\n`);
    } finally {
      await worker.stop();
    }
  },
  COMPILE_MS,
);
