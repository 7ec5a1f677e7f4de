import { spawnSync } from 'node:child_process';

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

function whyNoOwnHosts(): string | undefined {
  const mounted = spawnSync('unshare', ['-rnm', 'mount', '--bind', '/dev/null', '/etc/hosts'], { stdio: 'ignore' });
  if (mounted.status !== 0) return 'unshare -rnm with mount is not possible on this machine';
  const made = spawnSync('openssl', ['version'], { stdio: 'ignore' });
  return made.status === 0 ? undefined : 'the program openssl, for a certificate of another host, is missing';
}

/** ... where host names mean what the test says, with a certificate for them. Undefined: there are. */
export const NO_OWN_HOSTS = NO_OWN_LOOPBACK ?? whyNoOwnHosts();
