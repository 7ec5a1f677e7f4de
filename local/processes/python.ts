import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { logFileOf } from '../machine/layout';
import { UserError } from '../machine/user-error';
import { identify } from './process-identity';
import { runCommand } from './run-command';

import type { StartContext } from './start-context';

const OLDEST_MINOR = 10;

export interface BasePython {
  path: string;
  /** Such as "3.12.4". */
  version: string;
}

/** The Python for creating private environments: the one that the bootstrap found, or python3 on the PATH. */
export function findBasePython(): BasePython {
  for (const name of [process.env.FUNCX_BASE_PYTHON, 'python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10']) {
    if (name === undefined) continue;
    const script = 'import platform, sys; print(sys.executable); print(platform.python_version())';
    const { status, stdout } = spawnSync(name, ['-c', script], { encoding: 'utf8' });
    const [path, version] = (stdout ?? '').trim().split('\n');
    if (status !== 0 || path === undefined || version === undefined) continue;
    if (Number(version.split('.')[1]) >= OLDEST_MINOR) return { path, version };
  }
  throw new UserError(`Python 3.${OLDEST_MINOR} or newer is needed, as python3 on the PATH.`);
}

/** The part of {@link StartContext} that creating an environment needs. Tests provide only this part. */
export type EnvironmentContext = Pick<StartContext, 'cacheDir' | 'layout' | 'registry' | 'signal'>;

export interface EnvironmentRequest {
  /** Prefix of the folder's name. */
  name: string;
  /** Text of a requirements file with pinned versions. */
  requirements: string;
  /** Options for pip, such as `--require-hashes`. */
  pipOptions?: string[];
}

/**
 * Creates a private virtual environment with exactly these packages in the cache and returns its folder. The folder's name
 * contains a hash of the packages, so several starts share it. It is created under another name and renamed when complete.
 */
export async function ensureEnvironment(request: EnvironmentRequest, context: EnvironmentContext): Promise<string> {
  const base = findBasePython();
  const hash = createHash('sha256').update(`${base.path}\n${base.version}\n${request.requirements}`).digest('hex').slice(0, 12);
  const target = join(context.cacheDir, `${request.name}-${base.version}-${hash}`);
  if (existsSync(target)) return target;
  removeAbandoned(context.cacheDir);
  const work = `${target}.new-${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    await fill(work, base, request, context);
    try {
      renameSync(work, target);
    } catch (error) {
      if (!existsSync(target)) throw error; // otherwise another start was faster and created the same folder
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return target;
}

async function fill(work: string, base: BasePython, request: EnvironmentRequest, context: EnvironmentContext): Promise<void> {
  const options = { log: logFileOf(context.layout, 'python'), signal: context.signal, registry: context.registry };
  const list = join(work, 'requirements.txt');
  writeFileSync(list, request.requirements);
  const install = ['install', '--no-input', '--disable-pip-version-check', ...(request.pipOptions ?? []), '-r', list];
  if (hasModule(base, 'ensurepip')) {
    await runCommand(base.path, ['-m', 'venv', work], options);
    await runCommand(join(work, 'bin', 'python'), ['-m', 'pip', ...install], options);
  } else if (hasModule(base, 'pip') && hasModule(base, 'venv')) {
    await runCommand(base.path, ['-m', 'venv', '--without-pip', work], options);
    await runCommand(base.path, ['-m', 'pip', '--python', join(work, 'bin', 'python'), ...install], options);
  } else {
    // Debian and Ubuntu ship this part of Python's standard library as a separate package.
    throw new UserError(
      `This Python (${base.path}) cannot create virtual environments; on Debian or Ubuntu run "apt-get install python3-venv".`,
    );
  }
}

function hasModule(base: BasePython, name: string): boolean {
  const script = `import importlib.util, sys; sys.exit(importlib.util.find_spec(${JSON.stringify(name)}) is None)`;
  return spawnSync(base.path, ['-c', script]).status === 0;
}

/** Removes incomplete environments that ended starts left behind. */
function removeAbandoned(cacheDir: string): void {
  for (const name of readdirSync(cacheDir)) {
    const maker = /\.new-(\d+)$/.exec(name)?.[1];
    if (maker !== undefined && identify(Number(maker)) === undefined) {
      rmSync(join(cacheDir, name), { recursive: true, force: true });
    }
  }
}

/** Returns the first of these programs that is on the PATH. */
export function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(':').filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path) && dirname(path) !== '.');
}
