import { lowestIdAt } from '../../contracts/ids';
import type { Database } from './database';
import { inTransaction, isLockTimeout } from './transactions';

/** The partitions of tasks and bodies: one for each table and day, by the time in the IDs. */

export const PARTITIONED = ['tasks', 'payloads', 'results'] as const;
type PartitionedTable = (typeof PARTITIONED)[number];

const DAY_MS = 86_400_000;
/** Partitions are created this many days ahead. If the creation fails, there are days to find out why. */
const DAYS_AHEAD = 3;
/** Short, because statements on the parent table queue behind a waiting lock request. */
const LOCK_TIMEOUT = '500ms';
/** The advisory lock that serializes the creation of partitions. */
const PARTITION_LOCK = 0x66756e65;

export function partitionName(table: PartitionedTable, dayMs: number): string {
  return `${table}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`;
}

/**
 * Creates the missing partitions of yesterday (the clock of the process that created an ID may be behind), today and the next
 * days. Returns the names of the partitions that could not be created now because another transaction holds a lock.
 */
export async function createPartitions(db: Database, nowMs: number): Promise<string[]> {
  const existing = await listAttached(db);
  const today = Math.floor(nowMs / DAY_MS) * DAY_MS;
  const missing: string[] = [];
  for (let day = -1; day <= DAYS_AHEAD; day++) {
    for (const table of PARTITIONED) {
      const name = partitionName(table, today + day * DAY_MS);
      if (!existing.has(name) && !(await createPartition(db, table, today + day * DAY_MS))) missing.push(name);
    }
  }
  return missing;
}

/** The number of days after today for which all partitions exist; -1 when today's are missing. */
export async function countDaysAhead(db: Database, nowMs: number): Promise<number> {
  const existing = await listAttached(db);
  let days = -1;
  while (PARTITIONED.every((table) => existing.has(partitionName(table, nowMs + (days + 1) * DAY_MS)))) days++;
  return days;
}

async function listAttached(db: Database): Promise<Set<string>> {
  const { rows } = await db.query<{ name: string }>(
    `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = any ($1::regclass[])`,
    [PARTITIONED],
  );
  return new Set(rows.map((row) => row.name));
}

/**
 * Creates a standalone table and attaches it. "create table ... partition of" would lock the parent against all readers and
 * writers; "attach" locks it only against other schema changes.
 */
async function createPartition(db: Database, table: PartitionedTable, fromMs: number): Promise<boolean> {
  const name = partitionName(table, fromMs);
  try {
    await inTransaction(db, async (client) => {
      await client.query(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
      await client.query('select pg_advisory_xact_lock($1)', [PARTITION_LOCK]);
      const { rows } = await client.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [name]);
      if (rows[0]?.exists) return; // another process created it
      await client.query(`create table ${name} (like ${table} including defaults including constraints including storage)`);
      await client.query(
        `alter table ${table} attach partition ${name}
           for values from ('${lowestIdAt(fromMs)}') to ('${lowestIdAt(fromMs + DAY_MS)}')`,
      );
    });
    return true;
  } catch (error) {
    if (isLockTimeout(error)) return false;
    throw error;
  }
}

/** Days (as in the names of partitions) that have a partition of tasks, attached or not. */
export async function listPartitionDays(db: Database): Promise<string[]> {
  const { rows } = await db.query<{ suffix: string }>(
    `select substring(relname from '^tasks_(\\d{8})$') as suffix from pg_class
      where relkind = 'r' and relnamespace = current_schema()::regnamespace and relname ~ '^tasks_\\d{8}$' order by 1`,
  );
  return rows.map((row) => row.suffix);
}

/**
 * Detaches and drops the partitions of one day. The partition of tasks is last: after an interruption, it shows that the day is
 * not finished. Detaching "concurrently" does not lock the parent against readers and writers, as dropping would. False when
 * another transaction holds a lock on a table; the next call continues.
 */
export async function dropPartitions(db: Database, suffix: string): Promise<boolean> {
  const client = await db.connect();
  try {
    await client.query(`set lock_timeout = '${LOCK_TIMEOUT}'`);
    for (const table of ['payloads', 'results', 'tasks'] as const) {
      const name = `${table}_${suffix}`;
      const { rows } = await client.query<{ pending: boolean }>(
        'select inhdetachpending as pending from pg_inherits where inhrelid = to_regclass($1)',
        [name],
      );
      if (rows[0]) {
        await client.query(`alter table ${table} detach partition ${name} ${rows[0].pending ? 'finalize' : 'concurrently'}`);
      }
      await client.query(`drop table if exists ${name}`);
    }
    await client.query('reset lock_timeout');
    client.release();
    return true;
  } catch (error) {
    client.release(true); // close it: its lock_timeout is still set
    if (isLockTimeout(error)) return false;
    throw error;
  }
}
