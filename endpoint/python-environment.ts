import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** Finds a Python, creates environments for functions, and checks what functions need. Shared with `local/` and `cli/`. */

const OLDEST_MINOR = 10;
export const NO_PYTHON = `Python 3.${OLDEST_MINOR} or newer is needed, as python3 on the PATH.`;

export interface BasePython {
  path: string;
  /** Such as "3.12.4". */
  version: string;
}

/** Finds the first Python that is new enough: the preferred one, otherwise one on the PATH. */
export function findPython(preferred?: string): BasePython | undefined {
  for (const name of [preferred, 'python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10']) {
    if (name === undefined) continue;
    const script = 'import platform, sys; print(sys.executable); print(platform.python_version())';
    const { status, stdout } = spawnSync(name, ['-c', script], { encoding: 'utf8' });
    const [found, version] = (stdout ?? '').trim().split('\n');
    if (status !== 0 || found === undefined || version === undefined) continue;
    if (Number(version.split('.')[1]) >= OLDEST_MINOR) return { path: found, version };
  }
  return undefined;
}

/** Commands that create a virtual environment and run pip once per element of `installs`; undefined without `venv`. */
export function environmentCommands(base: BasePython, folder: string, installs: string[][]): [string, string[]][] | undefined {
  const python = path.join(folder, 'bin', 'python');
  const pip = (program: string, ...before: string[]): [string, string[]][] =>
    installs.map((wanted) => [
      program,
      ['-m', 'pip', ...before, 'install', '--no-input', '--disable-pip-version-check', ...wanted],
    ]);
  if (hasModule(base, 'ensurepip')) {
    return [[base.path, ['-m', 'venv', folder]], ...pip(python)];
  }
  if (!hasModule(base, 'pip') || !hasModule(base, 'venv')) return undefined;
  return [[base.path, ['-m', 'venv', '--without-pip', folder]], ...pip(base.path, '--python', python)];
}

/** Message for a Python without `venv`, which Debian and Ubuntu ship as a separate package. */
export const noVenv = (base: BasePython): string =>
  `This Python (${base.path}) cannot create virtual environments; on Debian or Ubuntu run "apt-get install python3-venv".`;

function hasModule(base: BasePython, name: string): boolean {
  const script = `import importlib.util, sys; sys.exit(importlib.util.find_spec(${JSON.stringify(name)}) is None)`;
  return spawnSync(base.path, ['-c', script]).status === 0;
}

const CHECK = `
import importlib.util, sys
print(" ".join(name for name in ("dill", "globus_compute_sdk") if importlib.util.find_spec(name) is None))
`;

/** Returns why this Python cannot run functions and what to do, or undefined if it can. */
export function whyUnusable(python: string, requirements: string): string | undefined {
  const { status, stdout, stderr } = spawnSync(python, ['-c', CHECK], { encoding: 'utf8' });
  if (status !== 0) return `${python} is not a working Python: ${(stderr || 'it cannot be started').trim()}.`;
  const missing = stdout.trim();
  if (missing === '') return undefined;
  const lines = requirements.split('\n').filter((line) => /^[^#\s]/.test(line));
  const packages = lines.map((line) => `"${line.trim()}"`).join(' ');
  return `The Python ${python} has no ${missing.replace(' ', ' and no ')}, which functions need. Run:\n  ${python} -m pip install ${packages}`;
}
