import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { environmentCommands, findPython, NO_PYTHON, noVenv, type BasePython } from '../../endpoint/python-environment';
import { logFileOf } from '../machine/layout';
import { UserError } from '../machine/user-error';
import { identify } from './process-identity';
import { runCommand } from './run-command';

import type { StartContext } from './start-context';

export type { BasePython };

/** The Python for creating private environments: the Python that the bootstrap found, or python3 on the PATH. */
export function findBasePython(): BasePython {
  const found = findPython(process.env.FUNCX_BASE_PYTHON);
  if (found === undefined) throw new UserError(NO_PYTHON);
  return found;
}

/** The part of {@link StartContext} that creating an environment needs. Tests provide only this part. */
export type EnvironmentContext = Pick<StartContext, 'cacheDir' | 'layout' | 'registry' | 'signal'>;

export interface EnvironmentRequest {
  /** Prefix of the folder's name. */
  name: string;
  /** Text of a requirements file with every package, its version and its hashes. */
  locked: string;
  /** Text of a requirements file of the user's own packages, installed afterwards. */
  more?: string;
  pipOptions?: string[];
}

/**
 * Returns the folder of a private environment in the cache. Its name has a hash of the packages, so starts share it. It is created
 * under another name and renamed when complete.
 */
export async function ensureEnvironment(request: EnvironmentRequest, context: EnvironmentContext): Promise<string> {
  const base = findBasePython();
  const hash = createHash('sha256')
    .update(`${base.path}\n${base.version}\n${request.locked}${request.more ?? ''}`)
    .digest('hex')
    .slice(0, 12);
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
  const list = (name: string, text: string): string => {
    writeFileSync(join(work, name), text);
    return join(work, name);
  };
  const { locked, more, pipOptions = [] } = request;
  const commands = environmentCommands(base, work, [
    [...pipOptions, '--require-hashes', '-r', list('requirements.lock', locked)],
    ...(more === undefined ? [] : [['-r', list('requirements.txt', more)]]),
  ]);
  if (commands === undefined) throw new UserError(noVenv(base));
  for (const [command, args] of commands) await runCommand(command, args, options);
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

/** Returns the path of this program in the first folder of the PATH that has it. */
export function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(':').filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path) && dirname(path) !== '.');
}
