import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

/**
 * The agent's private Python environment, made once per Python version and list of requirements.
 * Node built-ins only: `up` and the tests use it before anything is installed.
 */

const run = promisify(execFile);

const STAMP = '.complete';
/** A lock older than this belongs to somebody who was killed. Its owner touches it more often. */
const STALE_LOCK_MS = 60_000;
const TOUCH_MS = 10_000;
const POLL_MS = 200;
const INSTALL_DEADLINE_MS = 10 * 60_000;

export interface PythonEnvironmentOptions {
  /** The Python that the environment is made from. Default `python3`. */
  basePython?: string;
}

/**
 * Returns the path of the environment's `python`, after making it in `cacheDir` when it is not there. Safe to call from several
 * processes at once. Throws an error with one sentence that says what to install when Python or its venv module is missing.
 */
export async function ensureAgentPython(
  cacheDir: string,
  log: (text: string) => void = () => undefined,
  { basePython = 'python3' }: PythonEnvironmentOptions = {},
): Promise<string> {
  const requirements = requirementsFile();
  const hash = createHash('sha256').update(fs.readFileSync(requirements)).digest('hex').slice(0, 12);
  const dir = path.join(path.resolve(cacheDir), `agent-python-${await pythonVersion(basePython)}-${hash}`);
  const python = path.join(dir, 'bin', 'python');
  fs.mkdirSync(cacheDir, { recursive: true });
  while (!isComplete(dir, python)) {
    const lock = takeLock(`${dir}.lock`);
    if (!lock) {
      await sleep(POLL_MS);
      continue;
    }
    try {
      if (!isComplete(dir, python)) await install(dir, python, basePython, requirements, log);
    } finally {
      lock.release();
    }
  }
  return python;
}

/** The stamp is written last; a half-made environment has none. */
function isComplete(dir: string, python: string): boolean {
  return fs.existsSync(path.join(dir, STAMP)) && fs.existsSync(python);
}

async function install(
  dir: string,
  python: string,
  basePython: string,
  requirements: string,
  log: (text: string) => void,
): Promise<void> {
  log(`making the agent's Python environment in ${dir}`);
  fs.rmSync(dir, { recursive: true, force: true });
  try {
    await run(basePython, ['-m', 'venv', dir], { timeout: INSTALL_DEADLINE_MS });
  } catch (error) {
    throw new Error(`${basePython} can not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv`, {
      cause: error,
    });
  }
  try {
    await run(
      python,
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-input', '-r', requirements],
      { timeout: INSTALL_DEADLINE_MS, maxBuffer: 16 * 1024 * 1024 },
    );
  } catch (error) {
    const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim().split('\n').slice(-5).join('\n') : '';
    throw new Error(`pip could not install ${requirements}:\n${stderr}`, { cause: error });
  }
  fs.writeFileSync(path.join(dir, STAMP), '');
}

async function pythonVersion(basePython: string): Promise<string> {
  let version: string;
  try {
    const { stdout } = await run(basePython, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])']);
    version = stdout.trim();
  } catch (error) {
    throw new Error(`${basePython} does not run; the agent needs Python 3.10 or newer on the PATH`, { cause: error });
  }
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major !== 3 || minor < 10) throw new Error(`${basePython} is Python ${version}; the agent needs 3.10 or newer`);
  return version;
}

/** Beside this file in the sources; compiled code finds it two levels up, in the sources or the published package. */
function requirementsFile(): string {
  const candidates = ['requirements.txt', '../../endpoint/requirements.txt', '../../requirements.txt'];
  const found = candidates.map((name) => path.join(__dirname, name)).find((file) => fs.existsSync(file));
  if (!found) throw new Error(`no requirements.txt of the agent near ${__dirname}`);
  return found;
}

/** A directory as lock: making it is atomic. Undefined when somebody else has it. */
function takeLock(lockDir: string): { release(): void } | undefined {
  try {
    fs.mkdirSync(lockDir);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    const modified = fs.statSync(lockDir, { throwIfNoEntry: false })?.mtimeMs;
    if (modified !== undefined && Date.now() - modified > STALE_LOCK_MS) fs.rmSync(lockDir, { recursive: true, force: true });
    return undefined;
  }
  const timer = setInterval(() => fs.utimes(lockDir, new Date(), new Date(), () => undefined), TOUCH_MS);
  return {
    release: () => {
      clearInterval(timer);
      fs.rmSync(lockDir, { recursive: true, force: true });
    },
  };
}
