import type { Policy } from '../../contracts/policy';
import type { EndState, TaskState } from '../../contracts/states';
import type { Database } from './database';
import { WITHOUT_FLUSH } from './without-flush';

/** Stores results of attempts. The first stored result of a task is its answer. */

export interface Answer {
  taskId: string;
  /** The endpoint queue of the agent that sent the result; undefined for a result that the service created. */
  endpointQueueId?: string;
  /** Undefined for a result that holds for every attempt: cancelled, expired. */
  attempt?: number;
  state: EndState;
  /** The message for the submitter. */
  frame: Uint8Array;
  /** Delay before another attempt; undefined when this result is final. */
  retryMs?: number;
  /** The attempt was lost: it counts as an infrastructure retry, not as one of the user's attempts. */
  isLoss?: boolean;
  /** The last line of a failure that is retried. */
  error?: string;
  /** Calls per second that the agent reports it could run. */
  capacity?: number;
}

/** What happened to a result; `verdict_of` in the SQL describes each value. */
export type Verdict = 'stored' | 'retry' | 'duplicate' | 'stale' | 'foreign' | 'unknown';

export interface Completed {
  taskId: string;
  verdict: Verdict;
  delivered: boolean;
  /** The stored answer, for a duplicate that is not marked as delivered and for an uploaded value that must be delivered. */
  frame: Buffer | null;
  ownerId: string | null;
  taskGroupId: string | null;
  /** Null for an unknown task, as `hasBatchQueue`. */
  hasQueue: boolean | null;
  hasBatchQueue: boolean | null;
  submissionId: string;
  nudge: boolean;
  /** State and attempt before this result; null for an unknown task. */
  oldState: TaskState | null;
  oldAttempt: number | null;
  /** The ID of the submission's workflow; null if the verdict is `unknown`, `foreign` or `stale`. */
  workflowId: string | null;
}

export async function storeAnswers(db: Database, answers: readonly Answer[]): Promise<Completed[]> {
  const { rows } = await db.query<Completed>({
    name: 'complete-tasks',
    text: `select id as "taskId", verdict, delivered, frame, owner_id as "ownerId", task_group_id as "taskGroupId",
                  has_queue as "hasQueue", submission_id as "submissionId", nudge,
                  old_state as "oldState", old_attempt as "oldAttempt",
                  workflow_id as "workflowId", has_batch_queue as "hasBatchQueue"
             from complete_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    values: [
      answers.map((answer) => answer.taskId),
      answers.map((answer) => answer.endpointQueueId ?? null),
      answers.map((answer) => answer.attempt ?? null),
      answers.map((answer) => answer.state),
      answers.map(({ frame }) => Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)),
      answers.map((answer) => (answer.retryMs === undefined ? null : Math.ceil(answer.retryMs))),
      answers.map((answer) => answer.isLoss ?? false),
      answers.map((answer) => answer.error ?? null),
      answers.map((answer) => answer.capacity ?? null),
    ],
  });
  return rows;
}

/** Lowest and highest id, for partition pruning: the planner prunes by a range but not by a list. */
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

/** Marks answers as delivered. Call only after the broker confirmed them: answers without the mark are delivered again. */
export async function markDelivered(db: Database, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-delivered',
    text: `with undelivered as (
             select id from tasks where id = any ($1) and id >= $2 and id <= $3 and delivered_at is null
              order by id for no key update
           )
           update tasks t set delivered_at = now() from undelivered u, ${WITHOUT_FLUSH}
            where t.id = u.id and t.id >= $2 and t.id <= $3`,
    values: [taskIds, ...rangeOfIds(taskIds)],
  });
}

export interface RetryFacts {
  taskId: string;
  attempt: number;
  losses: number;
  policy: Policy;
  /** The answer is also published to a queue of the task group. */
  isPublished: boolean;
}

export async function readRetryFacts(db: Database, taskIds: readonly string[]): Promise<Map<string, RetryFacts>> {
  const { rows } = await db.query<RetryFacts>({
    name: 'retry-facts',
    text: `select t.id as "taskId", t.attempt, t.losses, s.policy, g.has_queue or g.has_batch_queue as "isPublished" from tasks t
             join submissions s on s.id = submission_of(t.id)
             join task_groups g on g.id = t.task_group_id where t.id = any ($1) and t.id >= $2 and t.id <= $3`,
    values: [taskIds, ...rangeOfIds(taskIds)],
  });
  return new Map(rows.map((row) => [row.taskId, row]));
}

/** Bytes of an uploaded value within a result message; undefined when no upload exists. */
export async function sizeOfUpload(db: Database, taskId: string, attempt: number): Promise<number | undefined> {
  const { rows } = await db.query<{ bytes: number }>(
    `select octet_length(to_json(convert_from(body, 'UTF8'))::text) as bytes from uploads where id = $1 and attempt = $2`,
    [taskId, attempt],
  );
  return rows[0]?.bytes;
}

/**
 * Deletes the uploads of these attempts, if their tasks belong to the given endpoint queues. If a task is answered, also deletes
 * the uploads of its other attempts: an agent that ended between its upload and its message never announces the upload.
 */
export async function removeUploads(
  db: Database,
  attempts: readonly { taskId: string; attempt: number; endpointQueueId: string }[],
): Promise<void> {
  await db.query(
    `delete from uploads u using unnest($1::uuid[], $2::int[], $3::uuid[]) as a (id, attempt, queue_id), tasks t
      where u.id = a.id and (u.attempt = a.attempt or t.answered_at is not null) and t.id = a.id and t.endpoint_queue_id = a.queue_id and t.id = any ($1)`,
    [
      attempts.map(({ taskId }) => taskId),
      attempts.map(({ attempt }) => attempt),
      attempts.map(({ endpointQueueId }) => endpointQueueId),
    ],
  );
}

export interface UndeliveredGroup {
  id: string;
  ownerId: string;
  hasQueue: boolean;
  hasBatchQueue: boolean;
}

/** Task groups that wait for the delivery of an answer, by id from `from` on. */
export async function listUndeliveredGroups(
  db: Database,
  olderThanMs: number,
  limit: number,
  from?: string,
): Promise<UndeliveredGroup[]> {
  const { rows } = await db.query<UndeliveredGroup>({
    name: 'list-undelivered-groups',
    text: `select g.id, g.owner_id as "ownerId", g.has_queue as "hasQueue", g.has_batch_queue as "hasBatchQueue"
             from undelivered_groups(now() - $1::double precision * interval '1 millisecond', $3, $2) waiting (id)
             join task_groups g on g.id = waiting.id
            order by g.id`,
    values: [olderThanMs, limit, from ?? null],
  });
  return rows;
}

export interface UndeliveredAnswer {
  taskId: string;
  frame: Buffer;
  ownerId: string;
  taskGroupId: string;
  hasQueue: boolean;
  hasBatchQueue: boolean;
}

/**
 * Stored answers that are not marked as delivered, because their delivery failed or the process died before it: the oldest ones
 * of each group, at most `limit` for each. No more are listed once they have `maxBytes`; each group gets its oldest one first.
 */
export async function listUndelivered(
  db: Database,
  olderThanMs: number,
  groupIds: readonly string[],
  limit: number,
  maxBytes: number,
): Promise<UndeliveredAnswer[]> {
  const { rows } = await db.query<UndeliveredAnswer>({
    name: 'list-undelivered',
    text: `select listed.id as "taskId", listed.frame, g.owner_id as "ownerId", g.id as "taskGroupId",
                  g.has_queue as "hasQueue", g.has_batch_queue as "hasBatchQueue"
             from (select t.task_id as id, t.task_group_id as group_id, r.frame,
                          sum(octet_length(r.frame)::bigint) over (order by t.place, t.task_id) - octet_length(r.frame) as before
                     from undelivered_of($2, now() - $1::double precision * interval '1 millisecond', $3) t
                     join results r on r.id = t.task_id) listed
             join task_groups g on g.id = listed.group_id
            where listed.before < $4`,
    values: [olderThanMs, groupIds, limit, maxBytes],
  });
  return rows;
}

/** Removes uploads of answered tasks, and uploads older than `olderThanMs`. Returns their number. */
export async function sweepUploads(db: Database, olderThanMs: number): Promise<number> {
  // No upload is still running after an hour: the HTTP server ends a request after five minutes.
  await db.query(`delete from upload_parts where created_at < now() - interval '1 hour'`);
  const { rowCount } = await db.query(
    `delete from uploads u
      where u.created_at < now() - ($1::double precision * interval '1 millisecond')
         or (u.created_at < now() - interval '10 minutes'
             and not exists (select 1 from tasks t where t.id = u.id and t.answered_at is null))`,
    [olderThanMs],
  );
  return rowCount ?? 0;
}
