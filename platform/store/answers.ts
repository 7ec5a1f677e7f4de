import type { Policy } from '../../contracts/policy';
import type { EndState } from '../../contracts/states';
import type { Database } from './database';

/** Storing answers: the first one of a task wins. */

export interface Answer {
  taskId: string;
  /** The queue the answer came from; undefined for an answer of the service's own. */
  taskQueueId?: string;
  attempt: number;
  state: EndState;
  /** The message for the submitter. */
  frame: Uint8Array;
  /** Pause before another attempt, when this failure is not the answer yet. */
  retryMs?: number;
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
}

export async function storeAnswers(db: Database, answers: readonly Answer[]): Promise<Completed[]> {
  const { rows } = await db.query<Completed>({
    name: 'complete-tasks',
    text: `select id as "taskId", verdict, delivered, frame, owner_id as "ownerId", task_group_id as "taskGroupId",
                  has_queue as "hasQueue", submission_id as "submissionId", submission_open as "submissionOpen", nudge
             from complete_tasks($1, $2, $3, $4, $5, $6)`,
    values: [
      answers.map((answer) => answer.taskId),
      answers.map((answer) => answer.taskQueueId ?? null),
      answers.map((answer) => answer.attempt),
      answers.map((answer) => answer.state),
      answers.map((answer) => Buffer.from(answer.frame)),
      answers.map((answer) => answer.retryMs ?? null),
    ],
  });
  return rows;
}

/** Written only after the broker confirmed, so that what is not marked is delivered again. */
export async function markDelivered(db: Database, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-delivered',
    text: 'update tasks set delivered_at = now() where id = any ($1) and delivered_at is null',
    values: [taskIds],
  });
}

export interface RetryFacts {
  taskId: string;
  attempt: number;
  losses: number;
  policy: Policy;
}

/** What decides whether a failure is the answer: the submission's policy and the attempts so far. */
export async function readRetryFacts(db: Database, taskIds: readonly string[]): Promise<Map<string, RetryFacts>> {
  const { rows } = await db.query<RetryFacts>({
    name: 'retry-facts',
    text: `select t.id as "taskId", t.attempt, t.losses, s.policy from tasks t
             join submissions s on s.id = (left(t.id::text, 31) || '00000')::uuid where t.id = any ($1)`,
    values: [taskIds],
  });
  return new Map(rows.map((row) => [row.taskId, row]));
}

/** A large result that an agent left over HTTP. */
export async function hasUpload(db: Database, taskId: string, attempt: number): Promise<boolean> {
  const { rowCount } = await db.query('select from uploads where id = $1 and attempt = $2', [taskId, attempt]);
  return rowCount === 1;
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
      limit $2`,
    [olderThanMs, limit],
  );
  return rows;
}
