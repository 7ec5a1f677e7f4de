import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { onPath } from '../../local/processes/python';

/**
 * What a machine may lack that some tests need: each is the reason why they are skipped, or undefined where nothing is
 * missing. `test/run.mjs` lists the skipped tests with it at the end of a run.
 */

/** `test`, or one that is skipped and says why in its title. */
export function testUnless(missing: string | undefined): (title: string, run: () => Promise<void>, timeoutMs?: number) => void {
  if (missing === undefined) return test;
  return (title, run, timeoutMs) => test.skip(title + skipReason(missing), run, timeoutMs);
}

/** What the title of a skipped test or group ends with. */
export const skipReason = (missing: string | undefined): string => (missing === undefined ? '' : ` [skipped: ${missing}]`);

function whyNoOwnLoopback(): string | undefined {
  const { status } = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'unshare -rn with the program ip is not possible on this machine';
}

/** A Python with Temporal's SDK; the tests of pipelines install it. */
export const TEMPORALIO = join(__dirname, '..', '..', '.cache', 'temporalio-py');
export const NO_TEMPORALIO = existsSync(join(TEMPORALIO, 'ready'))
  ? undefined
  : 'no Python with temporalio was installed; npm run test:pipelines does it';

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

function whyNoOwnUnits(): string | undefined {
  const { status } = spawnSync('unshare', ['-rm', 'mount', '--bind', '/tmp', '/etc/systemd/system'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'there is no systemd, or unshare -rm with mount is not possible on this machine';
}

/** A folder of the service manager that is the test's own. Undefined: there is. */
export const NO_OWN_UNITS = whyNoOwnUnits();

function whyNoSandbox(): string | undefined {
  const { status } = spawnSync('bwrap', ['--ro-bind', '/', '/', '--unshare-pid', '--proc', '/proc', 'true'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'bubblewrap is not installed, or the kernel refuses its sandbox';
}

/** A sandbox for functions, which endpoints beside a service need before others may submit to them. */
export const NO_SANDBOX = whyNoSandbox();

/** Debian's name first. */
const CHROMIUMS = ['chromium', 'chromium-browser', 'google-chrome'];

/** A browser for pages that others made, such as the Temporal UI. */
export const CHROMIUM = CHROMIUMS.map((name) => onPath(name)).find((path) => path !== undefined);
export const NO_CHROMIUM = CHROMIUM === undefined ? 'no Chromium is installed' : undefined;
