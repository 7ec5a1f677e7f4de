import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { whyUnusable } from '../endpoint/python-environment';
import { readJson, writeJson } from '../local/machine/files';
import { cacheDirOf, type Layout } from '../local/machine/layout';
import { UserError } from '../local/machine/user-error';
import { ProcessRegistry } from '../local/processes/process-registry';
import { ensureEnvironment, onPath, type EnvironmentContext } from '../local/processes/python';
import { agentRequirements, ensureAgentPython, lockedAgentPackages } from '../local/setup/agent-folder';
import { readState } from '../local/setup/state';

/** The options of `endpoint start` that are remembered for an agent of this machine. */

export type PythonChoice =
  | { kind: 'path'; path: string }
  /** An environment that is created with the packages of this file. */
  | { kind: 'requirements'; file: string }
  /** An environment that is created for this endpoint only, to which its user adds packages. */
  | { kind: 'venv' };

export interface AgentSettings {
  python?: PythonChoice;
  taskDirectories?: boolean;
  isIsolated?: boolean;
  workers?: number;
}

/** Options of one start. An undefined option keeps the remembered setting. */
export interface SettingOptions {
  /** A path, or `default` for the environment that agents have without any option. */
  python?: string;
  requirements?: string;
  venv?: boolean;
  taskDirectories?: boolean;
  isIsolated?: boolean;
  workers?: number;
}

export interface AgentPython {
  path: string;
  /** How a person adds a package. */
  advice: string;
}

const settingsFile = (dir: string): string => join(dir, 'settings.json');

export const readSettings = (dir: string): AgentSettings => (readJson(settingsFile(dir)) as AgentSettings | undefined) ?? {};

export function rememberSettings(dir: string, settings: AgentSettings): void {
  writeJson(settingsFile(dir), settings);
}

export function settingsWith(known: AgentSettings, options: SettingOptions): AgentSettings {
  const given = [options.python, options.requirements, options.venv].filter((option) => option !== undefined);
  if (given.length > 1) throw new UserError('Give one of --python, --requirements and --venv.');
  const taskDirectories = options.taskDirectories ?? known.taskDirectories;
  const python = given.length === 0 ? known.python : choiceOf(options);
  const isIsolated = options.isIsolated ?? known.isIsolated;
  const workers = options.workers ?? known.workers;
  return { python, taskDirectories, isIsolated, workers };
}

function choiceOf({ python, requirements, venv }: SettingOptions): PythonChoice | undefined {
  if (venv === true) return { kind: 'venv' };
  if (requirements !== undefined) return { kind: 'requirements', file: resolve(requirements) };
  return python === undefined || python === 'default' ? undefined : { kind: 'path', path: pathOf(python) };
}

/** Returns the path of a Python that is given as a path, as a name on the PATH, or as the folder of an environment. */
function pathOf(given: string): string {
  const path = given.includes('/') ? resolve(given) : (onPath(given) ?? resolve(given));
  if (!existsSync(path)) throw new UserError(`There is no Python ${given}; give the path of a program or of an environment.`);
  return statSync(path).isDirectory() ? join(path, 'bin', 'python') : path;
}

/** Returns the Python that runs the functions of this endpoint. Creates its environment if that is missing. */
export async function findAgentPython(layout: Layout, name: string, choice: PythonChoice | undefined): Promise<AgentPython> {
  switch (choice?.kind) {
    case 'path':
      return withPip(checked(choice.path));
    case 'requirements': {
      const { file } = choice;
      const request = { name: 'endpoint-python', locked: lockedAgentPackages(), more: requirementsOf(file) };
      const folder = await ensureEnvironment(request, contextOf(layout));
      return {
        path: join(folder, 'bin', 'python'),
        advice: `add it to ${file}, then: funcx endpoint stop ${name}; funcx endpoint start ${name}`,
      };
    }
    case 'venv': {
      const locked = `${lockedAgentPackages()}\n# for endpoint ${name} of ${layout.dataDir}\n`;
      const folder = await ensureEnvironment({ name: `venv-${name}`, locked }, contextOf(layout));
      return withPip(join(folder, 'bin', 'python'));
    }
    case undefined: {
      if (process.env.FUNCX_PYTHON) return withPip(checked(pathOf(process.env.FUNCX_PYTHON)));
      const known = readState(layout)?.python;
      const path = known && existsSync(known) ? known : await ensureAgentPython(contextOf(layout));
      return { path, advice: `give the endpoint an environment: funcx endpoint start ${name} --requirements FILE` };
    }
  }
}

const withPip = (path: string): AgentPython => ({
  path,
  advice: `${path} -m pip install PACKAGE, then start the endpoint again`,
});

/** Adds the workers' packages, so that pip refuses a conflicting file. By the hash, a changed file gets a new environment. */
function requirementsOf(file: string): string {
  try {
    const hash = createHash('sha256').update(readFileSync(file)).digest('hex');
    return `${agentRequirements()}\n-r ${file} # sha256 ${hash}\n`;
  } catch (cause) {
    throw new UserError(`The requirements file ${file} cannot be read.`, { cause });
  }
}

/** Throws a {@link UserError} that says what to do if this Python cannot run functions. */
function checked(path: string): string {
  const reason = whyUnusable(path, agentRequirements());
  if (reason !== undefined) throw new UserError(reason);
  return path;
}

function contextOf(layout: Layout): EnvironmentContext {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  return { cacheDir: cacheDirOf(layout), layout, registry: new ProcessRegistry(layout), signal: interrupt.signal };
}
