import type { PoolClient } from 'pg';

import type { Database } from './database';
import { slowQuery } from './transactions';

/** What the maintenance in `workers` needs from the store, except retention. */

const EXCLUSIVE = { maintenance: 0x66756e64, delivery: 0x66756e66, killed: 0x66756e67 } as const;

/** The store ends the session of a process that does not renew its lock for this long: the process is frozen or unreachable. */
const FROZEN_MS = 10_000;
const RENEW_MS = 2_000;

/**
 * Runs `run` unless another process is running it. Returns whether it ran. The signal aborts when another process may begin.
 */
export async function runExclusively(
  db: Database,
  what: keyof typeof EXCLUSIVE,
  run: (lost: AbortSignal) => Promise<void>,
): Promise<boolean> {
  const client: PoolClient = await db.connect();
  let isBroken = true;
  try {
    await client.query(`begin; set local idle_in_transaction_session_timeout = ${FROZEN_MS}`);
    const { rows } = await client.query<{ got: boolean }>('select pg_try_advisory_xact_lock($1) as got', [EXCLUSIVE[what]]);
    const isOurs = rows[0]?.got ?? false;
    const lost = new AbortController();
    const renewal = setInterval(() => void client.query('select 1').catch(() => lost.abort()), RENEW_MS);
    try {
      if (isOurs) await run(lost.signal);
    } finally {
      clearInterval(renewal);
      await client.query({ name: 'end-exclusive-run', text: 'commit' });
      isBroken = false;
    }
    return isOurs;
  } finally {
    client.release(isBroken);
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
