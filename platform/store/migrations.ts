import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Client } from 'pg';

import type { Database } from './database';
import { countDaysAhead, createPartitions } from './partitions';

/** Brings the schema up to date: applies the files `sql/NNNN-name.sql` in order, each once, and then replaces the functions. */

const SQL_DIR = join(__dirname, 'sql');
const FUNCTIONS_DIR = join(SQL_DIR, 'functions');
const MIGRATION_LOCK = 0x66756e63; // "func"
/** A migration that waits longer for a lock fails, so that requests do not queue behind it. The caller retries. */
const LOCK_TIMEOUT = '3s';
/** The first version with `unique nulls not distinct`. */
const MIN_SERVER_VERSION = 15;

/** Thrown when this version of the service cannot use the database; retrying cannot help. */
export class UnsupportedDatabaseError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnsupportedDatabaseError';
  }
}

/** In order. A migration after which earlier versions of the service cannot work begins with `-- incompatible: <why>`. */
export function readMigrations(folder = SQL_DIR): { name: string; sql: string; incompatible: string | null }[] {
  return readdirSync(folder)
    .filter((name) => /^\d{4}-.+\.sql$/.test(name))
    .sort()
    .map((name) => {
      const sql = readFileSync(join(folder, name), 'utf8');
      return { name, sql, incompatible: /^-- incompatible: (.+)/.exec(sql)?.[1] ?? null };
    });
}

/** Safe to run in several processes at the same time. Throws UnsupportedDatabaseError when retrying cannot help. */
export async function migrate(db: Database, nowMs: number, folder?: string): Promise<void> {
  // A connection of its own: migrations may take longer than the timeouts of the pool allow.
  const client = new Client({ ...db.options, statement_timeout: 0, query_timeout: 0 });
  client.on('error', () => undefined); // the query that failed rejects as well
  await client.connect();
  try {
    await requireVersion(client);
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]); // ends with the connection
    await client.query(`set lock_timeout = '${LOCK_TIMEOUT}'`);
    await applyMigrations(client, readMigrations(folder));
  } finally {
    await client.end();
  }
  await createPartitions(db, nowMs);
  if ((await countDaysAhead(db, nowMs)) >= 0) return;
  throw new Error('the partitions of today could not be created: another transaction holds a lock');
}

export async function requireVersion(client: Pick<Client, 'query'>): Promise<void> {
  const { rows } = await client.query<{ number: number; text: string }>(
    `select current_setting('server_version_num')::integer as number, current_setting('server_version') as text`,
  );
  const [version] = rows;
  if (version && version.number >= MIN_SERVER_VERSION * 10_000) return;
  throw new UnsupportedDatabaseError(
    `The database server is PostgreSQL ${version?.text ?? 'of an unknown version'}. Upgrade it to version ${MIN_SERVER_VERSION} or newer.`,
  );
}

async function applyMigrations(client: Client, migrations: ReturnType<typeof readMigrations>): Promise<void> {
  await client.query(
    `create table if not exists schema_migrations (
       name text primary key, applied_at timestamptz not null default now(), incompatible text)`,
  );
  // Read rows as JSON, because databases of earlier versions lack the last column.
  const { rows } = await client.query<{ row: { name: string; incompatible?: string | null } }>(
    'select to_jsonb(m) as row from schema_migrations m order by m.name',
  );
  const applied = new Map(rows.map(({ row }) => [row.name, row]));
  const known = new Set(migrations.map(({ name }) => name));
  const newer = [...applied.values()].filter(({ name }) => !known.has(name));
  const obstacle = newer.find(({ incompatible }) => typeof incompatible === 'string');
  if (obstacle) {
    throw new UnsupportedDatabaseError(
      `A newer version of funcX on Temporal changed the database (migration ${obstacle.name}: ${obstacle.incompatible ?? ''}), and this version cannot work with it. Start the newer version, or restore a backup that was made before the upgrade.`,
    );
  }
  const pending = migrations.filter(({ name }) => !applied.has(name));
  if (pending.length > 0) await client.query('alter table schema_migrations add column if not exists incompatible text');
  for (const { name, sql, incompatible } of pending) {
    await client.query('begin');
    await client.query(sql);
    await client.query('insert into schema_migrations (name, incompatible) values ($1, $2)', [name, incompatible]);
    await client.query('commit');
  }
  // The functions of a newer version also work for this version, as in a rolling upgrade; ours would not work for a newer one.
  if (newer.length === 0) await replaceFunctions(client);
}

async function replaceFunctions(client: Client): Promise<void> {
  const files = readdirSync(FUNCTIONS_DIR).sort(); // each function is created after the functions that it calls
  await client.query(`begin; ${files.map((file) => readFileSync(join(FUNCTIONS_DIR, file), 'utf8')).join('\n')} commit`);
}
