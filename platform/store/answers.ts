import type { Policy } from '../../contracts/policy';
import type { EndState, TaskState } from '../../contracts/states';
import type { Database } from './database';

/** Storing answers: the first one of a task wins. */

export interface Answer {
  taskId: string;
  /** The queue the answer came from; undefined for an answer of the service's own. */
  endpointQueueId?: string;
  /** Undefined for an answer of the service's own that holds for every attempt: cancelled, expired. */
  attempt?: number;
  state: EndState;
  /** The message for the submitter. */
  frame: Uint8Array;
  /** Pause before another attempt, when this failure is not the answer yet. */
  retryMs?: number;
  /** The attempt was lost: it spends one of the service's own retries, not one of the user's. */
  isLoss?: boolean;
}

/**
 * `stored`: this is the task's answer. `retry`: another attempt follows. `duplicate`: it was answered before.
 * `stale`: a failure of an attempt that was given up. `foreign`: from an agent that the task was not sent to. `unknown`: no such task.
 */
export type Verdict = 'stored' | 'retry' | 'duplicate' | 'stale' | 'foreign' | 'unknown';

export interface Completed {
  taskId: string;
  verdict: Verdict;
  delivered: boolean;
  /** The stored answer of a duplicate that is not marked delivered. */
  frame: Buffer | null;
  ownerId: string | null;
  taskGroupId: string | null;
  hasQueue: boolean | null;
  submissionId: string;
  submissionOpen: number | null;
  nudge: boolean;
  /** Before this answer; null for an unknown task. */
  oldState: TaskState | null;
  oldAttempt: number | null;
}

export async function storeAnswers(db: Database, answers: readonly Answer[]): Promise<Completed[]> {
  const { rows } = await db.query<Completed>({
    name: 'complete-tasks',
    text: `select id as "taskId", verdict, delivered, frame, owner_id as "ownerId", task_group_id as "taskGroupId",
                  has_queue as "hasQueue", submission_id as "submissionId", submission_open as "submissionOpen", nudge,
                  old_state as "oldState", old_attempt as "oldAttempt"
             from complete_tasks($1, $2, $3, $4, $5, $6, $7)`,
    values: [
      answers.map((answer) => answer.taskId),
      answers.map((answer) => answer.endpointQueueId ?? null),
      answers.map((answer) => answer.attempt ?? null),
      answers.map((answer) => answer.state),
      answers.map((answer) => Buffer.from(answer.frame)),
      answers.map((answer) => (answer.retryMs === undefined ? null : Math.ceil(answer.retryMs))),
      answers.map((answer) => answer.isLoss ?? false),
    ],
  });
  return rows;
}

/** Lowest and highest id: a list of ids alone does not lead a statement to its partitions. Ids compare as text. */
function rangeOfIds(ids: readonly string[]): [string, string] | [null, null] {
  let [low] = ids;
  if (low === undefined) return [null, null];
  let high = low;
  for (const id of ids) {
    if (id < low) low = id;
    if (id > high) high = id;
  }
  return [low, high];
}

/** Written only after the broker confirmed, so that what is not marked is delivered again. */
export async function markDelivered(db: Database, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-delivered',
    text: `with undelivered as (
             select id from tasks where id = any ($1) and id >= $2 and id <= $3 and delivered_at is null
              order by id for no key update
           )
           update tasks t set delivered_at = now() from undelivered u where t.id = u.id and t.id >= $2 and t.id <= $3`,
    values: [taskIds, ...rangeOfIds(taskIds)],
  });
}

export interface RetryFacts {
  taskId: string;
  attempt: number;
  losses: number;
  policy: Policy;
  /** Its answer is also a message on the broker. */
  hasQueue: boolean;
}

/** What decides whether a failure is the answer: the submission's policy and the attempts so far. */
export async function readRetryFacts(db: Database, taskIds: readonly string[]): Promise<Map<string, RetryFacts>> {
  const { rows } = await db.query<RetryFacts>({
    name: 'retry-facts',
    text: `select t.id as "taskId", t.attempt, t.losses, s.policy, g.has_queue as "hasQueue" from tasks t
             join submissions s on s.id = submission_of(t.id)
             join task_groups g on g.id = t.task_group_id where t.id = any ($1) and t.id >= $2 and t.id <= $3`,
    values: [taskIds, ...rangeOfIds(taskIds)],
  });
  return new Map(rows.map((row) => [row.taskId, row]));
}

/** Bytes that a value left over HTTP has within a message; undefined when none was left. */
export async function sizeOfUpload(db: Database, taskId: string, attempt: number): Promise<number | undefined> {
  const { rows } = await db.query<{ bytes: number }>(
    `select octet_length(to_json(convert_from(body, 'UTF8'))::text) as bytes from uploads where id = $1 and attempt = $2`,
    [taskId, attempt],
  );
  return rows[0]?.bytes;
}

export async function removeUploads(db: Database, taskIds: readonly string[]): Promise<void> {
  await db.query('delete from uploads where id = any ($1)', [taskIds]);
}

export interface UndeliveredAnswer {
  taskId: string;
  frame: Buffer;
  ownerId: string;
  taskGroupId: string;
}

/** Stored answers that no confirm was written for: the process died between store and deliver. */
export async function listUndelivered(db: Database, olderThanMs: number, limit: number): Promise<UndeliveredAnswer[]> {
  const { rows } = await db.query<UndeliveredAnswer>(
    `select t.id as "taskId", r.frame, t.owner_id as "ownerId", t.task_group_id as "taskGroupId"
       from tasks t join results r on r.id = t.id join task_groups g on g.id = t.task_group_id
      where t.answered_at < now() - ($1::double precision * interval '1 millisecond') and t.delivered_at is null and g.has_queue
      order by t.answered_at limit $2`,
    [olderThanMs, limit],
  );
  return rows;
}

/** Uploads that no result will ever name: their task is answered, or they were left long ago. Returns how many. */
export async function sweepUploads(db: Database, olderThanMs: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from uploads u
      where u.created_at < now() - ($1::double precision * interval '1 millisecond')
         or (u.created_at < now() - interval '10 minutes'
             and not exists (select 1 from tasks t where t.id = u.id and t.answered_at is null))`,
    [olderThanMs],
  );
  return rowCount ?? 0;
}
