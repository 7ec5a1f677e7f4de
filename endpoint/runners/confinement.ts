import { realpathSync } from 'node:fs';
import path from 'node:path';

/** How function code is kept apart from the agent and from what the agent's user may read. */
export interface Confinement {
  /** The user that runs function code; the agent is root then. */
  user?: { uid: number; gid: number };
  /** Function code runs in a sandbox of bubblewrap: nothing can be written but the run folder, these folders are empty. */
  hidden?: string[];
  runDir: string;
}

interface ConfinedCommand {
  command: string;
  args: string[];
  uid?: number;
  gid?: number;
}

const APP = path.resolve(__dirname, '..', '..');

/** The command line and the user that run this program within its confinement. */
export function confine({ user, hidden, runDir }: Confinement, command: string, args: string[], cwd: string): ConfinedCommand {
  if (hidden === undefined) return { command, args, ...user };
  // What lies in a hidden folder and is needed is mounted again: a program's prefix is the parent of its bin folder.
  const programs = path.isAbsolute(command) ? [command, realpathSync(command)] : [];
  const needed = [APP, ...programs.map((program) => path.dirname(path.dirname(program)))];
  const sandbox = [
    ...['--die-with-parent', '--unshare-pid', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc'],
    ...['--perms', '1777', '--tmpfs', '/tmp'],
    ...[...hidden].sort().flatMap((folder) => ['--tmpfs', folder]),
    // The ways to what is mounted, which the other user must be able to pass: bubblewrap makes them for root alone.
    ...['/tmp', ...hidden]
      .flatMap((folder) => [...needed, runDir].flatMap((inner) => waysBetween(folder, inner)))
      .flatMap((way) => ['--perms', '0755', '--dir', way]),
    ...needed.flatMap((folder) => ['--ro-bind', folder, folder]),
    ...['--bind', runDir, runDir, '--chdir', cwd],
  ];
  if (user === undefined) return { command: 'bwrap', args: [...sandbox, '--', command, ...args] };
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
  return { command: 'bwrap', args: [...sandbox, ...capabilities, '--', ...become, command, ...args] };
}

/** The folders between a folder and one that lies in it, from the outside in. */
function waysBetween(outer: string, inner: string): string[] {
  const parts = path.relative(outer, inner).split(path.sep);
  if (parts[0] === '..') return [];
  return parts.slice(0, -1).map((_, index) => path.join(outer, ...parts.slice(0, index + 1)));
}
