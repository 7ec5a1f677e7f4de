import { realpathSync } from 'node:fs';
import path from 'node:path';

import { limitedCommand, type ControlGroups, type WorkerLimits } from './limits';

/** The folders and variables of a process. A worker that starts without an owner gets its folders with its first call. */
export interface Place {
  cwd: string;
  /** Environment variables that differ from the environment of the agent. */
  env: Record<string, string>;
  /** Folders that the process may write to in a sandbox. */
  writable: string[];
}

/** How function code is separated from the agent and from the files that the agent's user may read. */
export interface Confinement {
  /** The user that runs function code. Requires that the agent is root. */
  user?: { uid: number; gid: number };
  /** Runs function code in a bubblewrap sandbox: these folders are empty in it, and only `Place.writable` keeps changes. */
  hidden?: string[];
  /** Each worker has its own sandbox and sees no processes and folders of other workers. Needs `hidden`. */
  isIsolated?: boolean;
  /** Working folder for function code of the endpoint's owner. */
  runDir: string;
  /** The agent's directory, which contains the folders of other owners. */
  dir: string;
  limits?: WorkerLimits;
  /** Control groups for the limits. Undefined if the agent may not create them. */
  controlGroups?: ControlGroups;
}

interface ConfinedCommand {
  command: string;
  args: string[];
  uid?: number;
  gid?: number;
}

const APP = path.resolve(__dirname, '..', '..');

export function confine(confinement: Confinement, command: string, args: string[], place: Place): ConfinedCommand {
  const { user, hidden, isIsolated, limits, controlGroups } = confinement;
  const [program = command, ...rest] = [...limitedCommand(limits ?? {}, controlGroups), command, ...args];
  if (hidden === undefined) return { command: program, args: rest, ...user };
  // Needed folders inside a hidden folder are mounted again. The prefix of a program is the parent of its bin folder.
  const programs = path.isAbsolute(command) ? [command, realpathSync(command)] : [];
  // Mount nothing else again: the prefix of /bin/sh is the root, and mounting the root would undo the hiding.
  const needed = [APP, ...programs.map((program) => path.dirname(path.dirname(program)))].filter((folder) =>
    ['/tmp', ...hidden].some((outer) => liesIn(outer, folder)),
  );
  const sandbox = [
    ...['--die-with-parent', '--unshare-pid', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc'],
    ...['--perms', '1777', '--tmpfs', '/tmp', '--perms', '1777', '--tmpfs', '/dev/shm'],
    ...[...hidden].sort().flatMap((folder) => ['--tmpfs', folder]),
    // Folders on the path to each mount. bubblewrap would create them for root only, and the other user must pass through them.
    ...['/tmp', ...hidden]
      .flatMap((folder) => [...needed, ...place.writable].flatMap((inner) => waysBetween(folder, inner)))
      .flatMap((way) => ['--perms', '0755', '--dir', way]),
    ...needed.flatMap((folder) => ['--ro-bind', folder, folder]),
    ...place.writable.flatMap((folder) => ['--bind', folder, folder]),
    ...(isIsolated === true ? ['--unshare-ipc', '--unshare-uts'] : []),
    ...['--chdir', place.cwd],
  ];
  if (user === undefined) return { command: 'bwrap', args: [...sandbox, '--', program, ...rest] };
  // bubblewrap creates the mounts as root. Then setpriv becomes the other user, without any capability, and runs the program.
  const become = [
    'setpriv',
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    '--bounding-set=-all',
    '--no-new-privs',
  ];
  const capabilities = ['--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID', '--cap-add', 'CAP_SETPCAP'];
  return { command: 'bwrap', args: [...sandbox, ...capabilities, '--', ...become, program, ...rest] };
}

function liesIn(outer: string, inner: string): boolean {
  const way = path.relative(outer, inner);
  return way !== '' && way.split(path.sep)[0] !== '..';
}

/** Returns the folders between a folder and one of its descendants, outermost first. */
function waysBetween(outer: string, inner: string): string[] {
  if (!liesIn(outer, inner)) return [];
  const parts = path.relative(outer, inner).split(path.sep);
  return parts.slice(0, -1).map((_, index) => path.join(outer, ...parts.slice(0, index + 1)));
}
