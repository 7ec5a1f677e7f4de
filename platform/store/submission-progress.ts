import { exceptionLineOf } from '../../contracts/exceptions';
import { decodeFrame } from '../../contracts/frames';
import { MAX_SHOWN_TASKS, type FailureLine, type QueueState, type SubmissionProgress } from '../../contracts/submission';
import { isEndState, type TaskState } from '../../contracts/states';
import type { Database } from './database';

/** Reads and writes the state of a submission for its workflow. */

/** Thrown when the rows of a submission were removed (by retention or by hand): its workflow must end. */
export class SubmissionGoneError extends Error {
  constructor(submissionId: string) {
    super(`submission ${submissionId} is not in the store; it may have been removed after its retention time`);
    this.name = 'SubmissionGoneError';
  }
}

const MAX_FAILURES_SHOWN = 5;
/** How long the service waits for the agent to stop an overdue attempt before it ends the attempt itself. */
export const WALLTIME_GRACE_MS = 15_000;

/** The state of a submission, or of all submissions up to `lastId` together, as their workflow needs it. */
export async function readProgress(
  db: Database,
  submissionId: string,
  { walltimeMs, lastId = submissionId }: { walltimeMs?: number | undefined; lastId?: string | undefined } = {},
): Promise<SubmissionProgress> {
  const [counts, queue] = await Promise.all([
    db.query<CountRow>({
      name: 'submission-counts',
      text: `select state, count(*)::integer as n, min(due_at) as due, min(running_at) as running, sum(losses)::integer as losses,
                    (array_agg(attempt order by due_at) filter (where state = 'delayed'))[1] as attempt,
                    (array_agg(last_error order by due_at) filter (where state = 'delayed'))[1] as error
               from tasks where id > $1 and id <= last_task_of($2) group by state`,
      values: [submissionId, lastId],
    }),
    db.query<{ queue_id: string; is_online: boolean; changed_at: Date; open: number; is_deleted: boolean }>({
      name: 'submission-queue',
      text: `select q.id as queue_id, q.is_online, q.changed_at, s.open, e.deleted_at is not null as is_deleted
               from (select endpoint_queue_id, endpoint_id, sum(open)::integer as open
                       from submissions where id >= $1 and id <= $2 group by 1, 2) s
               join endpoint_queues q on q.id = s.endpoint_queue_id join endpoints e on e.id = s.endpoint_id`,
      values: [submissionId, lastId],
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
    ...(head.is_deleted ? { endpointDeleted: true } : {}),
  };
  let lost = 0;
  for (const row of counts.rows) {
    progress.counts[row.state] = row.n;
    if (!isEndState(row.state)) lost += row.losses;
    if (row.state === 'delayed' && row.due) {
      progress.nextDueMs = row.due.getTime();
      progress.nextAttempt = { number: (row.attempt ?? 0) + 1, error: row.error };
    }
    // The walltime starts when the agent reports that the attempt runs, because an attempt may wait at its agent before.
    if (row.state === 'running' && row.running && walltimeMs !== undefined) {
      progress.nextOverdueMs = row.running.getTime() + walltimeMs + WALLTIME_GRACE_MS;
    }
  }
  if (lost > 0) progress.lost = lost;
  if (progress.counts.waiting && head.is_online) progress.queue = await readQueueState(db, head.queue_id);
  if (progress.counts.failed) progress.failures = await readFailures(db, submissionId, MAX_FAILURES_SHOWN, lastId);
  return progress;
}

/** Whether the submission, or any submission up to `lastId`, is in the store. */
export async function hasSubmission(db: Database, submissionId: string, lastId = submissionId): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>({
    name: 'has-submission',
    text: 'select exists (select from submissions where id >= $1 and id <= $2) as found',
    values: [submissionId, lastId],
  });
  return rows[0]?.found ?? false;
}

interface CountRow {
  state: TaskState;
  n: number;
  due: Date | null;
  running: Date | null;
  losses: number;
  attempt: number | null;
  error: string | null;
}

/** What a queue has to do, and for which owners. Waiting tasks are counted up to {@link MAX_SHOWN_TASKS}. */
export async function readQueueState(db: Database, queueId: string): Promise<QueueState> {
  const { rows } = await db.query<QueueState>({
    name: 'queue-state',
    text: `with found as (select task.id, task.owner_id from tasks task
                          where task.endpoint_queue_id = $1 and task.state = 'waiting' limit ${MAX_SHOWN_TASKS}),
                people as (select identity.name, count(*)::integer as tasks from found
                             join identities identity on identity.id = found.owner_id group by 1 order by 2 desc limit 5)
           select q.in_flight as "inHand", q.window_size as window, q.workers,
                  (select count(*)::integer from found) as waiting,
                  (select count(distinct owner_id)::integer from found) as owners,
                  (select coalesce(array_agg(name || ' (' || tasks || ')'), '{}') from people) as "ownerNames",
                  (select (extract(epoch from min(submission.created_at)) * 1000)::double precision from submissions submission
                    where submission.endpoint_queue_id = $1 and submission.open > 0
                      and submission.id in (select submission_of(id) from found)) as "oldestMs"
             from endpoint_queues q where q.id = $1`,
    values: [queueId],
  });
  const [row] = rows;
  if (!row) throw new Error(`endpoint queue ${queueId} is not in the store; its endpoint may have been deleted`);
  return row;
}

/** The queues of an endpoint, its own queue first and then the busiest, and the name of the endpoint's owner. */
export async function listEndpointQueues(
  db: Database,
  endpointId: string,
  limit: number,
): Promise<{ ownerName: string; queues: { id: string; changedAt: Date }[] }> {
  const { rows } = await db.query<{ ownerName: string; id: string | null; changedAt: Date | null }>(
    `select i.name as "ownerName", q.id, q.changed_at as "changedAt"
       from endpoints e join identities i on i.id = e.owner_id left join endpoint_queues q on q.endpoint_id = e.id
      where e.id = $1 order by q.id = e.id desc, q.in_flight desc, q.id limit $2`,
    [endpointId, limit],
  );
  const queues = rows.flatMap(({ id, changedAt }) => (id === null || changedAt === null ? [] : [{ id, changedAt }]));
  return { ownerName: rows[0]?.ownerName ?? '', queues };
}

/** The latest failures of a submission, with the last line of each traceback. */
export async function readFailures(
  db: Database,
  submissionId: string,
  limit: number,
  lastId = submissionId,
): Promise<FailureLine[]> {
  const { rows } = await db.query<{ id: string; frame: Buffer }>(
    `select r.id, r.frame from tasks t join results r on r.id = t.id
      where t.id > $1 and t.id <= last_task_of($3) and t.state = 'failed' order by r.seq desc limit $2`,
    [submissionId, limit, lastId],
  );
  return rows.map(({ id, frame }) => {
    const decoded = decodeFrame(frame);
    if (decoded.message_type !== 'result') throw new Error(`the stored answer of task ${id} is not a result`);
    return { taskId: id, code: decoded.data.error_details?.code ?? 'unknown', text: exceptionLineOf(decoded.data.data) };
  });
}

export async function setSubmissionState(db: Database, submissionId: string, state: string): Promise<void> {
  await db.query(
    `update submissions set state = $2,
            finished_at = case when is_finished($2) then coalesce(finished_at, now()) else null end
      where id = $1 and (state <> $2 or (is_finished($2) and finished_at is null))`,
    [submissionId, state],
  );
}

/** Each submission ends after its last answer, or when the workflow ends. A submission that has ended keeps its state. */
export async function setSharedStates(db: Database, firstId: string, lastId: string, state: string): Promise<void> {
  await db.query({
    name: 'set-shared-states',
    text: `update submissions set
             state = case when is_open then $3 when $3 = 'cancelled' and cancelled > 0 or $3 = 'expired' and expired > 0 then $3
                          else 'done' end,
             finished_at = case when is_open and not is_finished($3) then null else now() end
            where id >= $1 and id <= $2 and finished_at is null and (not is_open or state <> $3)`,
    values: [firstId, lastId, state],
  });
}
