import type { PoolClient } from 'pg';

import type { Database } from './database';
import { slowQuery } from './transactions';

/** What the maintenance in `workers` needs from the store, except retention. */

const MAINTENANCE_LOCK = 0x66756e64;

/** Runs `run` unless another process is running it. */
export async function runExclusively(db: Database, run: () => Promise<void>): Promise<void> {
  const client: PoolClient = await db.connect();
  // The lock belongs to the session: a session that may hold it must not go back to the pool.
  let mayHoldLock = true;
  try {
    const { rows } = await client.query<{ got: boolean }>('select pg_try_advisory_lock($1) as got', [MAINTENANCE_LOCK]);
    mayHoldLock = rows[0]?.got === true;
    if (!mayHoldLock) return;
    try {
      await run();
    } finally {
      await client.query('select pg_advisory_unlock($1)', [MAINTENANCE_LOCK]);
      mayHoldLock = false;
    }
  } finally {
    client.release(mayHoldLock);
  }
}

export interface Difference {
  id: string;
  counted: number;
  actual: number;
}
export type SubmissionDifference = Difference & { workflowId: string };

/** Younger submissions may be in the middle of their accept. */
const MIN_AGE = '1 minute';

/** Compares the counts of queues and submissions with their tasks, repairs them and returns the differences. Each is a bug. */
export async function reconcileCounts(db: Database): Promise<{ queues: Difference[]; submissions: SubmissionDifference[] }> {
  const queues = await slowQuery<Difference>(db, 'select queue_id as id, counted, actual from reconcile_in_flight()');
  const submissions = await slowQuery<SubmissionDifference>(
    db,
    `select s.id, counted, actual, workflow_of(s.id, s.workflow_id) as "workflowId"
       from reconcile_open($1) r join submissions s on s.id = r.submission_id`,
    [MIN_AGE],
  );
  return { queues: queues.rows, submissions: submissions.rows };
}

/** Deleted endpoints that may still have open tasks, queues or broker users. */
export async function listDeletedEndpoints(db: Database, limit: number): Promise<{ id: string; endpointQueueIds: string[] }[]> {
  const { rows } = await db.query<{ id: string; endpointQueueIds: string[] }>(
    `select e.id, array(select q.id from endpoint_queues q where q.endpoint_id = e.id) as "endpointQueueIds"
       from endpoints e
      where e.deleted_at < now() - interval '3 seconds'
        and (e.swept_at is null or exists (select 1 from submissions s where s.endpoint_id = e.id and s.is_open))
      order by e.deleted_at limit $1`,
    [limit],
  );
  return rows;
}

export async function markSwept(db: Database, endpointId: string): Promise<void> {
  await db.query('update endpoints set swept_at = now() where id = $1', [endpointId]);
}
