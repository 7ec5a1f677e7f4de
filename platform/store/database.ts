import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Pool, types } from 'pg';

import { lowestIdAt } from '../../contracts/ids';
import type { Logger } from '../log';

/** The Postgres pool, the migrations and the partitions. */

export type Database = Pool;

// int8 counts and sequence numbers stay below 2^53.
types.setTypeParser(types.builtins.INT8, (text) => Number(text));

const MIGRATION_LOCK = 0x66756e63; // "func"
const DAY_MS = 86_400_000;
export const PARTITIONED = ['tasks', 'payloads', 'results'] as const;
/** Partitions exist this many days ahead, so that a new day never waits for the maintenance. */
const DAYS_AHEAD = 2;

export function openDatabase(url: string, maxConnections: number, log: Logger): Database {
  const pool = new Pool({ connectionString: url, max: maxConnections, application_name: 'funcx', keepAlive: true });
  pool.on('error', (error) => log.warn({ reason: error.message }, 'an idle database connection was lost'));
  return pool;
}

const SQL_DIR = join(__dirname, 'sql');
const sqlFile = (name: string): string => readFileSync(join(SQL_DIR, name), 'utf8');

/** The files `NNNN-name.sql`, in the order in which they are applied. */
export function migrationNames(): string[] {
  return readdirSync(SQL_DIR)
    .filter((name) => /^\d{4}-.+\.sql$/.test(name))
    .sort();
}

/** The SQL functions, replaced at each start, in an order in which each finds those that it calls. */
const functionFiles = (): string[] => readdirSync(join(SQL_DIR, 'functions')).sort();

/** Brings the schema up to date. Safe to run in several processes at the same time. */
export async function migrate(db: Database, nowMs: number): Promise<void> {
  const client = await db.connect();
  try {
    await client.query('begin');
    await client.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
    await client.query(
      'create table if not exists schema_migrations (name text primary key, applied_at timestamptz not null default now())',
    );
    const done = await client.query<{ name: string }>('select name from schema_migrations');
    const applied = new Set(done.rows.map((row) => row.name));
    for (const name of migrationNames()) {
      if (applied.has(name)) continue;
      await client.query(sqlFile(name));
      await client.query('insert into schema_migrations (name) values ($1)', [name]);
    }
    for (const name of functionFiles()) await client.query(sqlFile(join('functions', name)));
    await client.query(partitionStatements(nowMs));
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

/** Creates the partitions of today and the next days where they are missing. */
export async function createPartitions(db: Database, nowMs: number): Promise<void> {
  await db.query(partitionStatements(nowMs));
}

function partitionStatements(nowMs: number): string {
  const today = Math.floor(nowMs / DAY_MS) * DAY_MS;
  const statements: string[] = [];
  // Yesterday as well: the clock of the process that made an id may be behind.
  for (let day = -1; day <= DAYS_AHEAD; day++) {
    const from = today + day * DAY_MS;
    for (const table of PARTITIONED) {
      statements.push(
        `create table if not exists ${partitionName(table, from)} partition of ${table}` +
          ` for values from ('${lowestIdAt(from)}') to ('${lowestIdAt(from + DAY_MS)}')`,
      );
    }
  }
  return statements.join(';\n');
}

export function partitionName(table: (typeof PARTITIONED)[number], dayMs: number): string {
  return `${table}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`;
}
