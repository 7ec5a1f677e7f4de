import { lowestIdAt } from '../../contracts/ids';
import type { Database } from './database';
import { slowQuery } from './transactions';
import { dropPartitions, listPartitionDays } from './partitions';

/**
 * Removes rows past their retention time. The partitions of a day are dropped once all tasks of the day were answered before the
 * cutoff; until then, answered rows are deleted in batches. Each step may be interrupted at any point and repeated.
 */

const BATCH_ROWS = 2_000;
/** A run may have thousands of rows in its log. */
const BATCH_RUNS = 100;
/** Bounds one run; the next run continues. */
const MAX_BATCHES = 50;
const DAY_MS = 86_400_000;
/** Days whose partitions are never dropped: new IDs may still fall into them, because clocks differ. */
const KEPT_DAYS = 2;

export interface Removed {
  partitions: number;
  tasks: number;
  submissions: number;
  groups: number;
  flowRuns: number;
}

/** Removes tasks answered before `cutoff`, submissions and groups without tasks, and flow runs that ended before `cutoff`. */
export async function removeExpired(db: Database, cutoff: Date): Promise<Removed> {
  const removed: Removed = { partitions: 0, tasks: 0, submissions: 0, groups: 0, flowRuns: 0 };
  for (const suffix of await listOldPartitions(db, cutoff)) {
    const { rows } = await slowQuery<{ used: boolean }>(
      db,
      `select exists (select 1 from tasks_${suffix} where answered_at is null or answered_at >= $1) as used`,
      [cutoff],
    );
    if (rows[0]?.used) removed.tasks += await deleteAnswered(db, suffix, cutoff);
    else if (await dropDay(db, suffix)) removed.partitions++;
  }
  removed.submissions = await deleteInBatches(
    db,
    `delete from submissions where id in (
       select s.id from submissions s
        where s.id < $1 and s.open = 0 and coalesce(s.finished_at, s.created_at) < $2
          and not exists (select 1 from tasks t where t.id > s.id and t.id <= last_task_of(s.id))
        limit ${BATCH_ROWS})`,
    [lowestIdAt(cutoff.getTime()), cutoff],
  );
  removed.groups = await deleteInBatches(
    db,
    `delete from task_groups where id in (
       select g.id from task_groups g
        where g.created_at < $1 and not exists (select 1 from submissions s where s.task_group_id = g.id)
        limit ${BATCH_ROWS})`,
    [cutoff],
  );
  removed.flowRuns = await deleteInBatches(
    db,
    `delete from flow_runs where id in (
       select id from flow_runs where status in ('SUCCEEDED', 'FAILED') and completed_at < $1 limit ${BATCH_RUNS})`,
    [cutoff],
  );
  return removed;
}

/** Removes what has expired: idempotency records, tokens, leases of quotas, and dead letters older than `deadLettersBefore`. */
export async function removeLeftovers(db: Database, deadLettersBefore: Date): Promise<void> {
  await db.query(`delete from accepted_requests where created_at < now() - interval '1 day'`);
  await db.query(`delete from access_tokens where expires_at < now() - interval '1 day'`);
  await db.query('delete from dead_letters where created_at < $1', [deadLettersBefore]);
  await db.query('delete from quota_leases where expires_at < now()');
}

/** The suffixes of the partitions whose day ended before the cutoff. */
async function listOldPartitions(db: Database, cutoff: Date): Promise<string[]> {
  const before = Math.min(cutoff.getTime(), Date.now() - KEPT_DAYS * DAY_MS);
  const days = await listPartitionDays(db);
  return days.filter((suffix) => dayOf(suffix) + DAY_MS <= before);
}

const dayOf = (suffix: string): number => Date.parse(`${suffix.slice(0, 4)}-${suffix.slice(4, 6)}-${suffix.slice(6)}T00:00:00Z`);

async function deleteAnswered(db: Database, suffix: string, cutoff: Date): Promise<number> {
  return deleteInBatches(
    db,
    `with gone as (select id from tasks_${suffix} where answered_at < $1 limit ${BATCH_ROWS}),
          bodies as (delete from payloads_${suffix} p using gone g where p.id = g.id),
          answers as (delete from results_${suffix} r using gone g where r.id = g.id),
          pointers as (delete from payload_references p using gone g where p.id = g.id)
     delete from tasks_${suffix} t using gone g where t.id = g.id`,
    [cutoff],
  );
}

async function deleteInBatches(db: Database, text: string, values: unknown[]): Promise<number> {
  let total = 0;
  for (let batch = 0; batch < MAX_BATCHES; batch++) {
    const { rowCount } = await slowQuery(db, text, values);
    total += rowCount ?? 0;
    if ((rowCount ?? 0) === 0) break;
  }
  return total;
}

/** False when another transaction holds a lock on the tables. */
async function dropDay(db: Database, suffix: string): Promise<boolean> {
  const day = dayOf(suffix);
  await db.query('delete from payload_references where id >= $1 and id < $2', [lowestIdAt(day), lowestIdAt(day + DAY_MS)]);
  return dropPartitions(db, suffix);
}
