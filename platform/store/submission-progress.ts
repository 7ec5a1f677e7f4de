import { decodeFrame } from '../../contracts/frames';
import type { FailureLine, SubmissionProgress } from '../../contracts/submission';
import type { TaskState } from '../../contracts/states';
import type { Database } from './database';

/** The state of a submission, as its workflow reads and writes it. */

/** Thrown when the rows of a submission were removed (by retention or by hand): its workflow must end. */
export class SubmissionGoneError extends Error {
  constructor(submissionId: string) {
    super(`submission ${submissionId} is not in the store`);
    this.name = 'SubmissionGoneError';
  }
}

const MAX_FAILURES_SHOWN = 5;
/** Time for the agent to stop an overdue attempt before the service ends the attempt. */
export const WALLTIME_GRACE_MS = 15_000;

/** The state of a submission, as its workflow needs it. */
export async function readProgress(db: Database, submissionId: string, walltimeMs?: number): Promise<SubmissionProgress> {
  const [counts, queue] = await Promise.all([
    db.query<{ state: TaskState; n: number; due: Date | null; running: Date | null }>({
      name: 'submission-counts',
      text: `select state, count(*)::integer as n, min(due_at) as due, min(running_at) as running
               from tasks where id > $1 and id <= last_task_of($1) group by state`,
      values: [submissionId],
    }),
    db.query<{ is_online: boolean; changed_at: Date; open: number }>({
      name: 'submission-queue',
      text: `select q.is_online, q.changed_at, s.open from submissions s join endpoint_queues q on q.id = s.endpoint_queue_id where s.id = $1`,
      values: [submissionId],
    }),
  ]);
  const head = queue.rows[0];
  if (!head) throw new SubmissionGoneError(submissionId);
  const progress: SubmissionProgress = {
    open: head.open,
    counts: {},
    endpointOnline: head.is_online,
    endpointSinceMs: head.changed_at.getTime(),
    failures: [],
  };
  for (const row of counts.rows) {
    progress.counts[row.state] = row.n;
    if (row.state === 'delayed' && row.due) progress.nextDueMs = row.due.getTime();
    // Walltime counts from the agent's report that the attempt runs: an attempt may wait at its agent for longer.
    if (row.state === 'running' && row.running && walltimeMs !== undefined) {
      progress.nextOverdueMs = row.running.getTime() + walltimeMs + WALLTIME_GRACE_MS;
    }
  }
  if (progress.counts.failed) progress.failures = await readFailures(db, submissionId, MAX_FAILURES_SHOWN);
  return progress;
}

/** The latest failures of a submission, with the last line of each traceback. */
export async function readFailures(db: Database, submissionId: string, limit: number): Promise<FailureLine[]> {
  const { rows } = await db.query<{ id: string; frame: Buffer }>(
    `select r.id, r.frame from tasks t join results r on r.id = t.id
      where t.id > $1 and t.id <= last_task_of($1) and t.state = 'failed' order by r.seq desc limit $2`,
    [submissionId, limit],
  );
  return rows.map(({ id, frame }) => {
    const decoded = decodeFrame(frame);
    if (decoded.message_type !== 'result') throw new Error(`the stored answer of task ${id} is not a result`);
    const lines = decoded.data.data.trimEnd().split('\n');
    return { taskId: id, code: decoded.data.error_details?.code ?? 'unknown', text: (lines.at(-1) ?? '').slice(0, 200) };
  });
}

/** Writes the state that the workflow decided on. */
export async function setSubmissionState(db: Database, submissionId: string, state: string): Promise<void> {
  await db.query(
    `update submissions set state = $2,
            finished_at = case when is_finished($2) then coalesce(finished_at, now()) else null end
      where id = $1 and (state <> $2 or (is_finished($2) and finished_at is null))`,
    [submissionId, state],
  );
}
