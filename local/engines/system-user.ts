import { spawnSync } from 'node:child_process';

import { UserError } from '../machine/user-error';

export interface SystemUser {
  name: string;
  uid: number;
  gid: number;
}

const NAME = 'funcx-postgres';

function numberOf(flag: '-u' | '-g', name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout.trim()) : undefined;
}

function find(name: string): SystemUser | undefined {
  const uid = numberOf('-u', name);
  const gid = numberOf('-g', name);
  return uid === undefined || gid === undefined ? undefined : { name, uid, gid };
}

/** The user, without a shell or a home, that root runs PostgreSQL as; made at the first time. */
export function ensureSystemUser(): SystemUser {
  const known = find(NAME);
  if (known !== undefined) return known;
  const ways: [string, string[]][] = [
    [
      'useradd',
      ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', NAME],
    ],
    ['adduser', ['-S', '-D', '-H', '-s', '/sbin/nologin', NAME]], // busybox
  ];
  for (const [command, args] of ways) {
    if (spawnSync(command, args, { stdio: 'ignore' }).status === 0) break;
  }
  const made = find(NAME) ?? find('postgres');
  if (made !== undefined) return made;
  throw new UserError(
    `PostgreSQL cannot run as root and the user ${NAME} could not be made; add it ("useradd --system ${NAME}") or run as an ordinary user.`,
  );
}
