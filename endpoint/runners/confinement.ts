import { realpathSync } from 'node:fs';
import path from 'node:path';

import { limitedCommand, type ControlGroups, type WorkerLimits } from './limits';

/** What a process must know about its place; a worker that serves no owner yet hears it with its first call. */
export interface Place {
  cwd: string;
  /** Variables that differ from those of the agent. */
  env: Record<string, string>;
  /** Folders that a sandbox lets the process write. */
  writable: string[];
}

/** How function code is kept apart from the agent and from what the agent's user may read. */
export interface Confinement {
  /** The user that runs function code; the agent is root then. */
  user?: { uid: number; gid: number };
  /** Function code runs in a sandbox of bubblewrap: nothing can be written but the run folder, these folders are empty. */
  hidden?: string[];
  /** Every worker has a sandbox of its own: it sees no process and no folder of other workers. Needs `hidden`. */
  isIsolated?: boolean;
  /** Where function code of the endpoint's owner works. */
  runDir: string;
  /** The agent's directory: it holds the folders of other owners. */
  dir: string;
  limits?: WorkerLimits;
  /** Control groups for the limits, where the agent may make them. */
  controlGroups?: ControlGroups;
}

interface ConfinedCommand {
  command: string;
  args: string[];
  uid?: number;
  gid?: number;
}

const APP = path.resolve(__dirname, '..', '..');

/** The command line and the user that run this program within its confinement, at its place. */
export function confine(confinement: Confinement, command: string, args: string[], place: Place): ConfinedCommand {
  const { user, hidden, isIsolated, limits, controlGroups } = confinement;
  const [program = command, ...rest] = [...limitedCommand(limits ?? {}, controlGroups), command, ...args];
  if (hidden === undefined) return { command: program, args: rest, ...user };
  // What lies in a hidden folder and is needed is mounted again: a program's prefix is the parent of its bin folder.
  const programs = path.isAbsolute(command) ? [command, realpathSync(command)] : [];
  // Only that: the prefix of /bin/sh is the root, and mounting it again would undo the hiding.
  const needed = [APP, ...programs.map((program) => path.dirname(path.dirname(program)))].filter((folder) =>
    ['/tmp', ...hidden].some((outer) => liesIn(outer, folder)),
  );
  const sandbox = [
    ...['--die-with-parent', '--unshare-pid', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc'],
    ...['--perms', '1777', '--tmpfs', '/tmp', '--perms', '1777', '--tmpfs', '/dev/shm'],
    ...[...hidden].sort().flatMap((folder) => ['--tmpfs', folder]),
    // The ways to what is mounted, which the other user must be able to pass: bubblewrap makes them for root alone.
    ...['/tmp', ...hidden]
      .flatMap((folder) => [...needed, ...place.writable].flatMap((inner) => waysBetween(folder, inner)))
      .flatMap((way) => ['--perms', '0755', '--dir', way]),
    ...needed.flatMap((folder) => ['--ro-bind', folder, folder]),
    ...place.writable.flatMap((folder) => ['--bind', folder, folder]),
    ...(isIsolated === true ? ['--unshare-ipc', '--unshare-uts'] : []),
    ...['--chdir', place.cwd],
  ];
  if (user === undefined) return { command: 'bwrap', args: [...sandbox, '--', program, ...rest] };
  // As root, bubblewrap makes the mounts and the program in it becomes the other user, without any capability.
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

/** The folders between a folder and one that lies in it, from the outside in. */
function waysBetween(outer: string, inner: string): string[] {
  if (!liesIn(outer, inner)) return [];
  const parts = path.relative(outer, inner).split(path.sep);
  return parts.slice(0, -1).map((_, index) => path.join(outer, ...parts.slice(0, index + 1)));
}
