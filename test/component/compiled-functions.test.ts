import { mkdtempSync, openSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { transformSync } from '@swc/core';
import * as ts from 'typescript';

import { packBuffer, packJsonArguments } from '../../contracts/packing';
import { createJavaScriptPool } from '../../endpoint/runners/javascript';
import { OwnerFolders } from '../../endpoint/runners/owner-folders';
import { ProcessGroups } from '../../endpoint/runners/process-groups';
import type { Outcome, Runner } from '../../endpoint/runners/runner';
import { javascript } from '../../sdk/index';

/** A TypeScript function is sent as what a compiler made of it. */

jest.setTimeout(30_000);

const FOLDER = join(__dirname, '..', 'fixtures', 'compiled');
const SOURCE = readFileSync(join(FOLDER, 'source.ts'), 'utf8');
const dir = mkdtempSync(join(tmpdir(), 'funcx-compiled-'));
const groups = new ProcessGroups();
let runner: Runner;

beforeAll(() => {
  const confinement = { runDir: dir, dir };
  const pool = createJavaScriptPool({
    env: { ...process.env, FUNCX_RUN_DIR: dir },
    confinement,
    folders: new OwnerFolders({ confinement, log: { warn: () => undefined } }),
    slots: 1,
    groups,
    hostname: 'testhost',
    logFd: openSync(join(dir, 'workers.log'), 'a'),
    logPath: join(dir, 'workers.log'),
    log: { warn: () => undefined },
  });
  runner = pool.runner();
});

afterAll(async () => {
  await runner.close(0);
  groups.close();
});

const recorded = (name: string): string => readFileSync(join(FOLDER, `${name}.txt`), 'utf8');

/** The text of the function in a compiled module. */
function textIn(module: string): string {
  const exported: { spread?: () => unknown } = {};
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- a module of our own fixture
  new Function('exports', 'module', module)(exported, { exports: exported });
  if (!exported.spread) throw new Error('the compiled module exports no function');
  return javascript(exported.spread).source;
}

const byTsc = (target: ts.ScriptTarget): string =>
  textIn(ts.transpileModule(SOURCE, { compilerOptions: { target, module: ts.ModuleKind.CommonJS } }).outputText);
const bySwc = (target: 'es2022' | 'es2015'): string =>
  textIn(
    transformSync(SOURCE, {
      swcrc: false,
      configFile: false,
      jsc: { parser: { syntax: 'typescript' }, target },
      module: { type: 'commonjs' },
    }).code,
  );

async function run(source: string): Promise<Outcome> {
  const args = packJsonArguments([[{ x: 2, y: 1 }, { y: 2 }, { y: 3 }], { scale: 10 }]);
  return runner.run({
    taskId: '00000000-0000-8000-8000-000000000001',
    owner: 'own',
    buffer: packBuffer('js', `spread:${source}`) + args,
    maxResultChars: 100_000,
  });
}

test.each([
  ['tsx', () => recorded('tsx')],
  ['esbuild that keeps names', () => recorded('esbuild')],
  ['Bun', () => recorded('bun')],
  ['swc', () => bySwc('es2022')],
  ['tsc', () => byTsc(ts.ScriptTarget.ES2022)],
])('a function compiled by %s runs, and its inner functions keep their names', async (_tool, source) => {
  const outcome = await run(source());
  expect(outcome.error).toBeUndefined();
  const value = { x: 2, y: 1, total: 20, first: 1, rest: [2, 3], squares: [4, 9], name: 'later', made: 1, path: 'a/b' };
  expect(JSON.parse(outcome.data.slice(3))).toEqual(value);
});

test.each([
  ['esbuild for an old target', () => recorded('esbuild-es2016'), '__async'],
  ['esbuild that minifies and keeps names', () => recorded('esbuild-minified'), 'r'],
  ['swc for an old target', () => bySwc('es2015'), '_async_to_generator'],
  ['tsc for an old target', () => byTsc(ts.ScriptTarget.ES2015), '__awaiter'],
])('a function compiled by %s fails with what to change', async (_tool, source, missing) => {
  const outcome = await run(source());
  expect(outcome.data).toContain(`ReferenceError: ${missing} is not defined`);
  expect(outcome.data).toContain('Only the text of a function is sent');
  expect(outcome.data).toContain('Compile for ES2022 or later, without minifying');
});
