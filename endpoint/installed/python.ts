import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import { TerminalError } from '../../contracts/errors';
import { environmentCommands, findPython, NO_PYTHON, noVenv, whyUnusable } from '../python-environment';

import { homeOf, type AgentSettings } from './folders';

/** The Python that runs the functions of an installed agent: chosen by its user, or an environment in the agent's folder. */

export interface FunctionPython {
  path: string;
  /** How to add a package, as a sentence for the user. */
  advice: string;
}

/** Reads a file that lies beside the package's `lib` folder, or in `endpoint/` of a checkout. */
function ownFile(name: 'requirements.txt' | 'requirements.lock'): string {
  const places = [path.join(__dirname, '..'), path.join(__dirname, '..', '..', '..')];
  const file = places.map((dir) => path.join(dir, name)).find((place) => fs.existsSync(place));
  if (file === undefined) throw new Error(`${name} is missing beside ${__dirname}`);
  return fs.readFileSync(file, 'utf8');
}

/** Creates the environment if it is missing, which takes a minute. Tells the user so with `say`. */
export function ensurePython(name: string, settings: AgentSettings, say: (text: string) => void): FunctionPython {
  if (settings.python !== undefined) {
    const reason = whyUnusable(settings.python, ownFile('requirements.txt'));
    if (reason !== undefined) throw new TerminalError('INVALID_REQUEST', reason);
    return { path: settings.python, advice: `${settings.python} -m pip install PACKAGE, then restart the agent` };
  }
  const folder = ensureEnvironment(settings.requirements, say);
  return {
    path: path.join(folder, 'bin', 'python'),
    advice: `add it to a requirements file, then: funcx-endpoint stop ${name}; funcx-endpoint start ${name} --requirements FILE`,
  };
}

/** Returns the folder of the environment. `added`: text of the user's requirements file. */
function ensureEnvironment(added: string | undefined, say: (text: string) => void): string {
  const base = findPython(process.env.FUNCX_PYTHON);
  if (base === undefined) throw new TerminalError('INVALID_REQUEST', NO_PYTHON);
  const locked = ownFile('requirements.lock');
  const hash = createHash('sha256')
    .update(`${base.path}\n${base.version}\n${locked}${added ?? ''}`)
    .digest('hex')
    .slice(0, 12);
  // Scripts in an environment contain its path, so it is created in place. The file written last marks it as complete.
  const folder = path.join(homeOf(), `python-${base.version}-${hash}`);
  const done = path.join(folder, 'requirements.installed');
  if (fs.existsSync(done)) return folder;
  say(`Creating a Python environment in ${folder}; this takes a minute.`);
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  const [lock, list] = [path.join(folder, 'requirements.lock'), path.join(folder, 'requirements.txt')];
  fs.writeFileSync(lock, locked);
  // Includes the requirements of workers, so that pip refuses packages that conflict with them.
  fs.writeFileSync(list, `${ownFile('requirements.txt')}\n${added ?? ''}`);
  const commands = environmentCommands(base, folder, [
    ['--quiet', '--require-hashes', '-r', lock],
    ...(added === undefined ? [] : [['--quiet', '-r', list]]),
  ]);
  if (commands === undefined) throw new TerminalError('INVALID_REQUEST', noVenv(base));
  for (const [command, args] of commands) {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
    if (status === 0) continue;
    const line = [command, ...args].join(' ');
    throw new TerminalError(
      'INVALID_REQUEST',
      `The Python environment could not be created. This command failed:\n  ${line}\n${stderr.trim()}`,
    );
  }
  fs.renameSync(list, done);
  return folder;
}

/** Resolves the path or name of a program, or the folder of an environment, to a path that later starts find as well. */
export function pythonPathOf(given: string): string {
  const found = given.includes('/') ? path.resolve(given) : (onPath(given) ?? path.resolve(given));
  if (!fs.existsSync(found)) {
    throw new TerminalError('INVALID_REQUEST', `There is no Python ${given}; give the path of a program or of an environment.`);
  }
  return fs.statSync(found).isDirectory() ? path.join(found, 'bin', 'python') : found;
}

const onPath = (name: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(path.delimiter)
    .map((folder) => path.join(folder, name))
    .find((place) => fs.existsSync(place));
