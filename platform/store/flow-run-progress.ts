import type { PoolClient } from 'pg';

import { FLOW_CODE, type FlowLogEntry, type FlowRunStatus } from '../../contracts/flows';
import type { Database } from './database';
import { inTransaction } from './transactions';

/** The progress of runs: their start, steps and end. The interpreter writes only through {@link recordRun}. */

type Queryable = Pick<PoolClient, 'query'>;

export interface RunUpdate {
  status?: FlowRunStatus;
  /** The details in the format that clients read. */
  details?: Record<string, unknown>;
  /** ISO 8601; null clears the completion time, because the run continues. */
  completionTime?: string | null;
  /** New entries of the log. They are numbered when they are written, in this order. */
  entries: readonly FlowLogEntry[];
}

/** Writes an update. Call it in a transaction: it locks the run's row until the transaction ends. */
export async function recordRun(client: Queryable, runId: string, update: RunUpdate): Promise<void> {
  const { status, details, completionTime, entries } = update;
  const { rows } = await client.query<{ next: number }>(
    `update flow_runs set next_seq = next_seq + $2, status = coalesce($3, status), details = coalesce($4::json, details),
            completed_at = case when $5 then $6::timestamptz else completed_at end
      where id = $1 returning next_seq as next`,
    [
      runId,
      entries.length,
      status ?? null,
      details === undefined ? null : JSON.stringify(details),
      completionTime !== undefined,
      completionTime ?? null,
    ],
  );
  const next = rows[0]?.next;
  if (next === undefined || entries.length === 0) return; // the run was deleted, or there is nothing to log
  await client.query(
    `insert into flow_run_log (run_id, seq, at, code, description, details)
     select $1, $2 + e.n - 1, e.at, e.code, e.description, e.details
       from unnest($3::timestamptz[], $4::text[], $5::text[], $6::json[]) with ordinality as e (at, code, description, details, n)`,
    [
      runId,
      next - entries.length,
      entries.map(({ time }) => time),
      entries.map(({ code }) => code),
      entries.map(({ description }) => description),
      entries.map((entry) => JSON.stringify(entry.details)),
    ],
  );
}

/** Ends a run whose workflow was cancelled or no longer exists. False when the run has already ended. */
export async function endOpenRun(
  db: Database,
  { runId, generation }: { runId: string; generation?: number },
  { code, description, details }: { code: string; description: string; details: Record<string, unknown> },
): Promise<boolean> {
  return inTransaction(db, async (client) => {
    const { rowCount } = await client.query(
      `select 1 from flow_runs where id = $1 and status in ('ACTIVE', 'INACTIVE') and generation = coalesce($2, generation) for update`,
      [runId, generation ?? null],
    );
    if (rowCount === 0) return false;
    const time = new Date().toISOString();
    await recordRun(client, runId, {
      status: 'FAILED',
      completionTime: time,
      details: { code, description, time, ...details },
      entries: [{ time, code, description, details }],
    });
    return true;
  });
}

/** Records a request to cancel the run. False when the run has already ended. */
export async function noteCancelRequest(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update flow_runs set cancel_requested_at = coalesce(cancel_requested_at, now())
      where id = $1 and status in ('ACTIVE', 'INACTIVE')`,
    [id],
  );
  return rowCount === 1;
}

/** Makes a failed or inactive run active again, with a log entry. Returns its new generation; undefined for any other run. */
export async function reopenRun(db: Database, id: string): Promise<number | undefined> {
  return inTransaction(db, async (client) => {
    const { rows } = await client.query<{ generation: number }>(
      `update flow_runs set generation = generation + 1, cancel_requested_at = null, workflow_started_at = null, accepted_at = now()
        where id = $1 and status in ('FAILED', 'INACTIVE') returning generation`,
      [id],
    );
    const generation = rows[0]?.generation;
    if (generation !== undefined) {
      const resumed = { code: FLOW_CODE.resumed, description: 'The Flow Instance was resumed from the state that failed' };
      await recordRun(client, id, {
        status: 'ACTIVE',
        details: { ...resumed, details: {} },
        completionTime: null,
        entries: [{ ...resumed, time: new Date().toISOString(), details: {} }],
      });
    }
    return generation;
  });
}

export async function markRunStarted(db: Database, id: string, generation: number): Promise<void> {
  await db.query('update flow_runs set workflow_started_at = now() where id = $1 and generation = $2', [id, generation]);
}

export interface UnstartedRun {
  runId: string;
  flowId: string;
  title: string;
  ownerId: string;
  generation: number;
  isCancelled: boolean;
}

/** Runs whose workflow start was not recorded. In random order: refused runs delay no others, and sweeps seldom meet. */
export async function listUnstartedRuns(db: Database, before: Date, limit: number): Promise<UnstartedRun[]> {
  const { rows } = await db.query<UnstartedRun>(
    `select r.id as "runId", r.flow_id as "flowId", f.title, r.owner_id as "ownerId", r.generation,
            r.cancel_requested_at is not null as "isCancelled"
       from flow_runs r join flows f on f.id = r.flow_id
      where r.workflow_started_at is null and r.status = 'ACTIVE' and r.accepted_at < $1 order by random() limit $2`,
    [before, limit],
  );
  return rows;
}

export type CancelledRun = Pick<UnstartedRun, 'runId' | 'generation'>;

const IS_CANCELLED = `cancel_requested_at is not null and status = 'ACTIVE' and workflow_started_at is not null`;

/** Started runs that must be cancelled, in random order: a request to cancel them may not have reached the workflow. */
export async function listCancelledRuns(db: Database, limit: number): Promise<CancelledRun[]> {
  const { rows } = await db.query<CancelledRun>(
    `select id as "runId", generation from flow_runs where ${IS_CANCELLED} order by random() limit $1`,
    [limit],
  );
  return rows;
}

/** False once the run has ended, or was resumed. */
export async function isStillCancelled(db: Database, { runId, generation }: CancelledRun): Promise<boolean> {
  const { rows } = await db.query(`select from flow_runs where ${IS_CANCELLED} and id = $1 and generation = $2`, [
    runId,
    generation,
  ]);
  return rows.length > 0;
}
