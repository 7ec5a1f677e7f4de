import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { canReach, ensureSystemUser, type SystemUser } from '../engines/system-user';
import { REPOSITORY } from '../machine/layout';
import { findBasePython } from '../processes/python';

import type { Layout } from '../machine/layout';

/**
 * How function code of an agent on this machine is separated from the service's secrets. An agent that runs as root runs function
 * code as another user. If that user cannot reach a folder that it needs, the agent also uses a bubblewrap sandbox, because root
 * can mount the folder there. Any other agent runs function code in a sandbox.
 */

const WORKER_USER = 'funcx-worker';
const PROBE_MS = 5_000;

/** For separated workers at least one of `workerUser` and `hidden` is set; `hidden` means that they run in a sandbox. */
export interface Separation {
  workerUser?: SystemUser;
  /** Folders that the sandbox hides from function code. */
  hidden?: string[];
  /** Each worker has a sandbox of its own. */
  isIsolated?: boolean;
}

/** `refusal` says why function code cannot be separated on this machine. */
export function findSeparation(layout: Layout, cacheDir: string): Separation | { refusal: string } {
  const hidden = [layout.dataDir, homedir()].filter((folder) => folder !== '/');
  if (process.getuid?.() !== 0) {
    const refusal = sandboxRefusal(['true']);
    return refusal === undefined ? { hidden } : { refusal };
  }
  const user = ensureSystemUser(WORKER_USER);
  if (user === undefined) return { refusal: `the user ${WORKER_USER} could not be created` };
  const python = realpathSync(findBasePython().path);
  const needed = [join(REPOSITORY, 'endpoint'), cacheDir, layout.dataDir, process.execPath, python];
  const unreachable = needed.find((path) => !canReach(user, path));
  if (unreachable === undefined) return { workerUser: user };
  const refusal = sandboxRefusal(becoming(user));
  if (refusal === undefined) return { workerUser: user, hidden };
  return { refusal: `the user ${WORKER_USER} cannot reach ${unreachable}, and ${refusal}` };
}

/** A separate sandbox for each worker (`--isolate`), also on machines without a service. `refusal` says why it is impossible. */
export function findIsolation(layout: Layout): Separation | { refusal: string } {
  const hidden = [layout.dataDir, homedir()].filter((folder) => folder !== '/');
  if (process.getuid?.() !== 0) {
    const refusal = sandboxRefusal(['true']);
    return refusal === undefined ? { hidden, isIsolated: true } : { refusal };
  }
  const user = ensureSystemUser(WORKER_USER);
  if (user === undefined) return { refusal: `the user ${WORKER_USER} could not be created` };
  const refusal = sandboxRefusal(becoming(user));
  return refusal === undefined ? { workerUser: user, hidden, isIsolated: true } : { refusal };
}

const becoming = ({ uid }: SystemUser): string[] => [
  ...['--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID'],
  ...['setpriv', `--reuid=${uid}`, 'true'],
];

function sandboxRefusal(program: string[]): string | undefined {
  const mounts = ['--ro-bind', '/', '/', '--unshare-pid', '--proc', '/proc'];
  const { status, error } = spawnSync('bwrap', [...mounts, ...program], { timeout: PROBE_MS });
  if (status === 0) return undefined;
  if (!error) return 'the kernel does not allow bubblewrap sandboxes';
  const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
  return isMissing ? 'bubblewrap is not installed' : `bubblewrap could not be tried: ${error.message}`;
}

export function separationVariables({ workerUser, hidden, isIsolated }: Separation): Record<string, string> {
  return {
    ...(workerUser === undefined ? {} : { FUNCX_WORKER_USER: `${workerUser.uid}:${workerUser.gid}` }),
    ...(hidden === undefined ? {} : { FUNCX_WORKER_HIDES: hidden.join(':') }),
    ...(isIsolated === true ? { FUNCX_ISOLATE: '1' } : {}),
  };
}

/** FUNCX_WORKER_USER=same: function code runs as the agent's own user, even if the agent is root. */
export const isSameUserWanted = (): boolean => process.env.FUNCX_WORKER_USER === 'same';
