import { spawnSync } from 'node:child_process';

import { findBasePython } from '../../local/python';

/**
 * What a machine may lack that some tests need: each is the reason why they are skipped, or undefined where nothing is
 * missing. `test/run.mjs` lists the skipped tests with it at the end of a run.
 */

/** `test`, or one that is skipped and says why in its title. */
export function testUnless(missing: string | undefined): (title: string, run: () => Promise<void>, timeoutMs?: number) => void {
  if (missing === undefined) return test;
  return (title, run, timeoutMs) => test.skip(`${title} [skipped: ${missing}]`, run, timeoutMs);
}

function whyNoOwnLoopback(): string | undefined {
  const { status } = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'unshare -rn with the program ip is not possible on this machine';
}

/** Network namespaces for programs whose addresses are hard-wired. */
export const NO_OWN_LOOPBACK = whyNoOwnLoopback();

const isRoot = process.getuid?.() === 0;

/** Only root can run a user endpoint as another account. */
export const NOT_ROOT = isRoot ? undefined : 'only root can run tasks as another account';

/** The uid of `nobody`. */
export const NOBODY = 65_534;

function whyNotAsNobody(): string | undefined {
  if (NOT_ROOT !== undefined) return NOT_ROOT;
  const { status } = spawnSync(findBasePython().path, ['-c', ''], { uid: NOBODY, gid: NOBODY, cwd: '/' });
  return status === 0 ? undefined : 'the account nobody may not read the Python of this machine';
}

/** ... and only if that account may read the Python it runs with. */
export const NO_PYTHON_FOR_NOBODY = whyNotAsNobody();
