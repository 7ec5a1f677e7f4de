/**
 * `npm test`: builds, then runs the layers named on the command line (default: unit, component, security, system, chaos) and
 * ends with one plain line of counts. Further arguments after `--` go to jest.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cut = process.argv.indexOf('--');
const layers = process.argv.slice(2, cut < 0 ? undefined : cut);
const extra = cut < 0 ? [] : process.argv.slice(cut + 1);
const wanted = layers.length > 0 ? layers : ['unit', 'component', 'security', 'system', 'chaos'];

// Tests with real parts wait most of the time, so several layers run in two lanes. `system` is then two runs, each with its own
// system.
const isSplit = wanted.length > 1 && extra.length === 0;
const longestFirst = ['system', 'chaos', 'component', 'security', 'unit'];
const runs = [...wanted]
  .sort((a, b) => longestFirst.indexOf(a) - longestFirst.indexOf(b))
  .flatMap((layer) => (isSplit && layer === 'system' ? halvesOf(layer) : [{ layer }]));

if (!existsSync(join(root, 'node_modules', 'jest'))) run('npm', ['ci', '--no-audit', '--no-fund']);
run(process.execPath, ['local/build.mjs']);

const reports = mkdtempSync(join(tmpdir(), 'funcx-report-'));
const total = { passed: 0, failed: 0, skipped: 0 };
const skippedTitles = [];
let failedRuns = 0;
await Promise.all(Array.from({ length: isSplit ? 2 : 1 }, runInTurn));
rmSync(reports, { recursive: true, force: true });
if (failedRuns > 0 && total.failed === 0) total.failed = failedRuns;
for (const title of skippedTitles) console.log(`not run: ${title}`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed === 0 ? 0 : 1);

async function runInTurn() {
  for (let next = runs.shift(); next; next = runs.shift()) await runOne(next);
}

/** Tests that compile or pack the client's package write the same folder, so they are all in the first half. */
function halvesOf(layer) {
  const halves = [1, 2].map((part) => ({ layer, part, files: [], bytes: 0 }));
  const files = readdirSync(join(root, 'test', layer))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => ({ name, text: readFileSync(join(root, 'test', layer, name), 'utf8') }))
    .map(({ name, text }) => ({ name, bytes: text.length, isPackager: /buildExamples|ui-scenario|'pack'/.test(text) }))
    .sort((a, b) => Number(b.isPackager) - Number(a.isPackager) || b.bytes - a.bytes);
  for (const { name, bytes, isPackager } of files) {
    const half = isPackager || halves[0].bytes <= halves[1].bytes ? halves[0] : halves[1];
    half.files.push(name);
    half.bytes += bytes;
  }
  return halves;
}

async function runOne({ layer, part, files }) {
  const report = join(reports, `${layer}${part ? `-${part}` : ''}.json`);
  const args = [
    'node_modules/jest/bin/jest.js',
    '--selectProjects',
    layer,
    '--json',
    `--outputFile=${report}`,
    '--forceExit=false',
  ];
  if (files) args.push('--testPathPatterns', ...files.map((name) => `${layer}/${name.replaceAll('.', '\\.')}$`));
  args.push(...extra);
  // The files of a layer with real parts share one system: one file at a time.
  if (!['unit', 'component', 'security'].includes(layer)) args.push('--runInBand');
  // On two cores jest would use one; these tests wait for a process or a store most of the time.
  else args.push(`--maxWorkers=${Math.max(2, availableParallelism() - 1)}`);
  const code = await jest(args);
  if (code !== 0) failedRuns++;
  if (existsSync(report)) count(JSON.parse(readFileSync(report, 'utf8')));
}

function count({ numPassedTests, numFailedTests, numPendingTests, numFailedTestSuites, testResults }) {
  total.passed += numPassedTests;
  total.failed += numFailedTests;
  total.skipped += numPendingTests;
  // A file that could not even be loaded counts as one failure.
  if (numFailedTests === 0 && numFailedTestSuites > 0) total.failed += numFailedTestSuites;
  skippedTitles.push(...titlesOfSkipped(testResults));
  for (const title of duplicateTitles(testResults)) {
    console.error(`two tests have the title: ${title}`);
    total.failed++;
  }
}

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(status ?? 1);
}

function jest(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill(signal));
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

/** Those that a condition of the machine skips name it in their titles (test/helpers/conditions.ts). */
function titlesOfSkipped(files) {
  const titles = files.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === 'pending').map(({ fullName }) => fullName),
  );
  // With a filter on titles, what was filtered out is pending as well, and nobody wants to read it.
  return titles.filter((title) => extra.length === 0 || title.includes('[skipped: '));
}

function duplicateTitles(files) {
  const seen = new Set();
  const twice = new Set();
  for (const file of files) {
    for (const { fullName } of file.assertionResults) {
      const key = `${file.name}: ${fullName}`;
      if (seen.has(key)) twice.add(fullName);
      seen.add(key);
    }
  }
  return twice;
}
