/**
 * `npm run test:mutants`, by hand: breaks a copy of the product in named ways and shows that the tests notice each one. For
 * each mutant only those tests run that should notice it; they are a part of `npm test`, so that fails as well.
 *   node test/mutants.mjs [NAME ...]     all of them, or those named
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LIMIT_MS = 15 * 60_000;

/** Each breaks the product by one line; `test/unit/mutants.test.ts` shows that the lines are there. */
const MUTANTS = JSON.parse(readFileSync(join(root, 'test', 'mutants.json'), 'utf8'));

function copyCheckout() {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-mutant-'));
  const { stdout } = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const file of stdout.split('\0').filter((name) => name !== '' && existsSync(join(root, name)))) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(root, file), join(folder, file));
  }
  // The copy then compiles what the mutant changes, and nothing else.
  if (existsSync(join(root, 'dist'))) cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  if (existsSync(join(root, '.cache'))) symlinkSync(join(root, '.cache'), join(folder, '.cache')); // downloads only
  return folder;
}

function mutate(folder, { name, file, find, replace, append = '' }) {
  const path = join(folder, file);
  const source = readFileSync(path, 'utf8');
  if (source.split(find).length !== 2) {
    throw new Error(`mutant ${name}: ${file} does not have its line exactly once; adapt test/mutants.mjs to the code.`);
  }
  writeFileSync(path, source.replace(find, () => replace) + append);
}

/**
 * What noticed the mutant, or undefined. A mutant that does not compile, or whose system does not start for another reason
 * than that its first function has no answer, proves nothing: then this program fails.
 */
function runTests(folder, tests) {
  const env = { ...process.env };
  delete env.FUNCX_TEST_DATA_DIR; // the running system is not the mutant
  const { status, stdout, stderr, error } = spawnSync(process.execPath, ['test/run.mjs', ...tests], {
    cwd: folder,
    encoding: 'utf8',
    env,
    timeout: LIMIT_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error) throw error;
  const last = stdout.trim().split('\n').at(-1) ?? '';
  const output = stdout + stderr;
  const [, logs] = /the system did not start; its logs are in (\S+)/.exec(output) ?? [];
  const reason = logs === undefined ? '' : readFileSync(join(logs, 'supervisor.log'), 'utf8');
  if (reason.includes('The hello function ')) return 'the first function of "up" failed';
  if (!/^Tests: .*\d+ (?:passed|failed)/m.test(output)) throw new Error(`no test ran:\n${output}`);
  return status === 0 ? undefined : last;
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !MUTANTS.some((mutant) => mutant.name === name));
if (unknown.length > 0) {
  console.error(`There is no mutant ${unknown.join(', ')}; there are: ${MUTANTS.map(({ name }) => name).join(', ')}.`);
  process.exit(2);
}
const chosen = MUTANTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
let survivors = 0;
for (const mutant of chosen) {
  const folder = copyCheckout();
  try {
    mutate(folder, mutant);
    const noticedBy = runTests(folder, mutant.tests);
    if (noticedBy === undefined) survivors++;
    console.log(`${noticedBy ? 'noticed ' : 'SURVIVED'} ${mutant.name}: ${mutant.breaks}${noticedBy ? ` (${noticedBy})` : ''}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
console.log(`${chosen.length - survivors} noticed, ${survivors} survived`);
process.exit(survivors === 0 ? 0 : 1);
