import { spawnSync } from 'node:child_process';

/** What a machine may lack that some tests need: each with the reason that the test's title then gives. */

function whyNoOwnLoopback(): string | undefined {
  const { status } = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'unshare -rn with the program ip is not possible on this machine';
}

/** Network namespaces for programs whose addresses are hard-wired. Undefined: there are. */
export const NO_OWN_LOOPBACK = whyNoOwnLoopback();
