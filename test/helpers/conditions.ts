import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** What a machine may lack that some tests need: each with the reason that the test's title then gives. */

function whyNoOwnLoopback(): string | undefined {
  const { status } = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'unshare -rn with the program ip is not possible on this machine';
}

/** A Python with Temporal's SDK; the tests of pipelines install it. */
export const TEMPORALIO = join(__dirname, '..', '..', '.cache', 'temporalio-py');
export const NO_TEMPORALIO = existsSync(join(TEMPORALIO, 'ready'))
  ? undefined
  : 'no Python with temporalio was installed; npm run test:pipelines does it';

/** Network namespaces for programs whose addresses are hard-wired. Undefined: there are. */
export const NO_OWN_LOOPBACK = whyNoOwnLoopback();
