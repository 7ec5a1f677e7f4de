import type { PoolClient } from 'pg';

import { lowestIdAt } from '../../contracts/ids';
import { PARTITIONED, type Database } from './database';

/**
 * What is removed when its time is over. A day's partitions are dropped once every task of the day was answered that long
 * ago; before that, its answered rows are deleted one by one. Both may be interrupted at any point and done again.
 */

const ROWS_AT_ONCE = 2_000;
/** Bounds one run; the next one goes on. */
const BATCHES_AT_ONCE = 50;
const DAY_MS = 86_400_000;
/** Ids of these days may still be made; clocks differ. */
const KEPT_DAYS = 2;
/** Dropping takes a lock on the whole table: rather not now than make accepts wait. */
const LOCK_TIMEOUT = '2s';

export interface Removed {
  partitions: number;
  tasks: number;
  submissions: number;
  groups: number;
}

/** Removes tasks that were answered before `cutoff`, and what is left of their submissions and groups. */
export async function removeExpired(db: Database, cutoff: Date): Promise<Removed> {
  const removed: Removed = { partitions: 0, tasks: 0, submissions: 0, groups: 0 };
  for (const suffix of await listOldPartitions(db, cutoff)) {
    const { rows } = await db.query<{ used: boolean }>(
      `select exists (select 1 from tasks_${suffix} where answered_at is null or answered_at >= $1) as used`,
      [cutoff],
    );
    if (rows[0]?.used) removed.tasks += await deleteAnswered(db, suffix, cutoff);
    else if (await dropPartitions(db, suffix)) removed.partitions++;
  }
  removed.submissions = await deleteInBatches(
    db,
    `delete from submissions where id in (
       select s.id from submissions s
        where s.id < $1 and s.open = 0 and coalesce(s.finished_at, s.created_at) < $2
          and not exists (select 1 from tasks t where t.id > s.id and t.id <= last_task_of(s.id))
        limit ${ROWS_AT_ONCE})`,
    [lowestIdAt(cutoff.getTime()), cutoff],
  );
  removed.groups = await deleteInBatches(
    db,
    `delete from task_groups where id in (
       select g.id from task_groups g
        where g.created_at < $1 and not exists (select 1 from submissions s where s.task_group_id = g.id)
        limit ${ROWS_AT_ONCE})`,
    [cutoff],
  );
  return removed;
}

/** Requests that are not repeated any more, tokens that are void, dead letters that nobody looked at. */
export async function removeLeftovers(db: Database, deadLettersBefore: Date): Promise<void> {
  await db.query(`delete from accepted_requests where created_at < now() - interval '1 day'`);
  await db.query(`delete from access_tokens where expires_at < now() - interval '1 day'`);
  await db.query('delete from dead_letters where created_at < $1', [deadLettersBefore]);
}

/** Days (as in the partitions' names) that ended before the cutoff. */
async function listOldPartitions(db: Database, cutoff: Date): Promise<string[]> {
  const { rows } = await db.query<{ suffix: string }>(
    `select substring(c.relname from '^tasks_(\\d{8})$') as suffix
       from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'tasks'::regclass order by 1`,
  );
  const before = Math.min(cutoff.getTime(), Date.now() - KEPT_DAYS * DAY_MS);
  return rows
    .map((row) => row.suffix)
    .filter((suffix) => suffix !== null)
    .filter((suffix) => dayOf(suffix) + DAY_MS <= before);
}

const dayOf = (suffix: string): number => Date.parse(`${suffix.slice(0, 4)}-${suffix.slice(4, 6)}-${suffix.slice(6)}T00:00:00Z`);

async function deleteAnswered(db: Database, suffix: string, cutoff: Date): Promise<number> {
  return deleteInBatches(
    db,
    `with gone as (select id from tasks_${suffix} where answered_at < $1 limit ${ROWS_AT_ONCE}),
          bodies as (delete from payloads_${suffix} p using gone g where p.id = g.id),
          answers as (delete from results_${suffix} r using gone g where r.id = g.id),
          pointers as (delete from payload_references p using gone g where p.id = g.id)
     delete from tasks_${suffix} t using gone g where t.id = g.id`,
    [cutoff],
  );
}

async function deleteInBatches(db: Database, text: string, values: unknown[]): Promise<number> {
  let total = 0;
  for (let batch = 0; batch < BATCHES_AT_ONCE; batch++) {
    const { rowCount } = await db.query(text, values);
    total += rowCount ?? 0;
    if ((rowCount ?? 0) === 0) break;
  }
  return total;
}

/** False when somebody uses the tables just now. */
async function dropPartitions(db: Database, suffix: string): Promise<boolean> {
  const client = await db.connect();
  try {
    await client.query('begin');
    await client.query(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
    const day = dayOf(suffix);
    await client.query('delete from payload_references where id >= $1 and id < $2', [lowestIdAt(day), lowestIdAt(day + DAY_MS)]);
    await client.query(`drop table ${PARTITIONED.map((table) => `${table}_${suffix}`).join(', ')}`);
    await client.query('commit');
    return true;
  } catch (error) {
    await client.query('rollback').catch(() => undefined); // the connection may be what failed
    if (error instanceof Error && 'code' in error && error.code === '55P03') return false; // lock_not_available
    throw error;
  } finally {
    client.release();
  }
}

const MAINTENANCE_LOCK = 0x66756e64;

/** Runs it unless another process does. */
export async function runExclusively(db: Database, run: () => Promise<void>): Promise<void> {
  const client: PoolClient = await db.connect();
  try {
    const { rows } = await client.query<{ got: boolean }>('select pg_try_advisory_lock($1) as got', [MAINTENANCE_LOCK]);
    if (!rows[0]?.got) return;
    try {
      await run();
    } finally {
      await client.query('select pg_advisory_unlock($1)', [MAINTENANCE_LOCK]);
    }
  } finally {
    client.release();
  }
}

export interface Difference {
  id: string;
  counted: number;
  actual: number;
}

/** Younger submissions may be in the middle of their accept. */
const SETTLED = '1 minute';

/** Compares the counts of queues and submissions with their tasks and repairs them; every difference is a bug of ours. */
export async function reconcileCounts(db: Database): Promise<{ queues: Difference[]; submissions: Difference[] }> {
  const queues = await db.query<Difference>('select queue_id as id, counted, actual from reconcile_in_flight()');
  const submissions = await db.query<Difference>('select submission_id as id, counted, actual from reconcile_open($1)', [
    SETTLED,
  ]);
  return { queues: queues.rows, submissions: submissions.rows };
}

/** Endpoints that were deleted and may still have open tasks, queues or broker users. */
export async function listDeletedEndpoints(db: Database, limit: number): Promise<{ id: string; endpointQueueIds: string[] }[]> {
  const { rows } = await db.query<{ id: string; endpointQueueIds: string[] }>(
    `select e.id, array(select q.id from endpoint_queues q where q.endpoint_id = e.id) as "endpointQueueIds"
       from endpoints e
      where e.deleted_at < now() - interval '3 seconds'
        and (e.swept_at is null or exists (select 1 from submissions s where s.endpoint_id = e.id and s.open > 0))
      order by e.deleted_at limit $1`,
    [limit],
  );
  return rows;
}

export async function markSwept(db: Database, endpointId: string): Promise<void> {
  await db.query('update endpoints set swept_at = now() where id = $1', [endpointId]);
}
