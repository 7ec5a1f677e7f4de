import { spawnSync } from 'node:child_process';

import { UserError } from '../machine/user-error';

const POSTGRES = 'funcx-postgres';

export interface SystemUser {
  name: string;
  uid: number;
  gid: number;
}

function numberOf(flag: '-u' | '-g', name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout.trim()) : undefined;
}

function find(name: string): SystemUser | undefined {
  const uid = numberOf('-u', name);
  const gid = numberOf('-g', name);
  return uid === undefined || gid === undefined ? undefined : { name, uid, gid };
}

/** Returns a system user without a shell or a home. Creates it at the first call; undefined if that is not possible. */
export function ensureSystemUser(name: string): SystemUser | undefined {
  const known = find(name);
  if (known !== undefined) return known;
  const ways: [string, string[]][] = [
    [
      'useradd',
      ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', name],
    ],
    ['adduser', ['-S', '-D', '-H', '-s', '/sbin/nologin', name]], // busybox
  ];
  for (const [command, args] of ways) {
    if (spawnSync(command, args, { stdio: 'ignore' }).status === 0) break;
  }
  return find(name);
}

/** The user that root runs PostgreSQL as, because PostgreSQL refuses to be root. */
export function ensurePostgresUser(): SystemUser {
  const user = ensureSystemUser(POSTGRES) ?? find('postgres');
  if (user !== undefined) return user;
  throw new UserError(
    `PostgreSQL cannot run as root, and the user ${POSTGRES} could not be created: create it ("useradd --system ${POSTGRES}") or run "up" as an ordinary user.`,
  );
}

/** True when this user may enter this folder, or execute this file. */
export function canReach({ uid, gid }: SystemUser, path: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'test -x "$1"', 'sh', path], { uid, gid, cwd: '/' }).status === 0;
}
