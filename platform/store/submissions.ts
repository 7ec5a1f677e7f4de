import type { PoolClient } from 'pg';

import { taskIdOf } from '../../contracts/ids';
import type { Policy } from '../../contracts/policy';
import type { SubmissionStart } from '../../contracts/submission';
import type { Database } from './database';
import type { ResultQueue } from './result-queue';
import { inTransaction } from './transactions';
import type { UnansweredRequest } from './unanswered-requests';
import { WITHOUT_FLUSH } from './without-flush';

/** Inserts accepted submissions, and reads what the start of their workflows needs. */

export interface NewTask {
  functionId: string;
  payload: Buffer;
  /** Tasks whose results are inserted into the body when it is sent, and the size of the complete body. */
  referring?: { sources: readonly string[]; bytes: number };
}

export interface NewSubmission {
  id: string;
  workflowId: string;
  ownerId: string;
  endpointId: string;
  endpointQueueId: string;
  taskGroupId: string;
  functionName: string;
  policy: Policy;
  resourceSpecification?: Record<string, unknown>;
  resultSerializers?: string[];
  traceparent?: string;
  deadline: Date;
  tasks: NewTask[];
}

export interface Remembered {
  ownerId: string;
  key: string;
  bodyHash: Buffer;
  response: unknown;
}

export type InsertOutcome =
  /** `claimed` is set if a claim was requested and the queue had room. */
  | { kind: 'inserted'; claimed?: ClaimedAtInsert }
  | { kind: 'group-of-another-owner' }
  /** A request with this key was accepted before, with this body hash and response. */
  | { kind: 'repeated'; bodyHash: Buffer; response: unknown };

type Queryable = Pick<PoolClient, 'query'>;

export interface ClaimedAtInsert {
  /** See {@link ClaimedTask}. */
  capabilities: string[];
  rate: number;
  endpointOwnerId: string;
}

interface InsertRow {
  accepted: boolean;
  claimed: boolean;
  capabilities: string[];
  rate: number;
  endpoint_owner_id: string;
}

async function insertOne(
  db: Queryable,
  submission: NewSubmission,
  queue: ResultQueue,
  unanswered?: UnansweredRequest & { response: unknown },
  claimId?: string,
): Promise<InsertRow> {
  const references = submission.tasks.flatMap((task, index) =>
    (task.referring?.sources ?? []).map((source, position) => ({ id: taskIdOf(submission.id, index + 1), position, source })),
  );
  const { rows } = await db.query<InsertRow>({
    name: 'insert-submission',
    text: `select * from accept_submission($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                                           $20, $21, $22, $23, $24, $25, $26, $27)`,
    values: [
      submission.id,
      submission.ownerId,
      submission.endpointId,
      submission.endpointQueueId,
      submission.taskGroupId,
      submission.functionName,
      JSON.stringify(submission.policy),
      submission.resourceSpecification === undefined ? null : JSON.stringify(submission.resourceSpecification),
      submission.resultSerializers ?? null,
      submission.traceparent ?? null,
      submission.deadline,
      queue === 'single',
      submission.tasks.map((_, index) => taskIdOf(submission.id, index + 1)),
      submission.tasks.map((task) => task.functionId),
      submission.tasks.map((task) => task.payload),
      submission.tasks.map((task) => task.referring?.bytes ?? task.payload.length),
      unanswered?.id ?? null,
      unanswered?.bodyHash ?? null,
      unanswered?.listener ?? null,
      unanswered?.process ?? null,
      unanswered === undefined ? null : JSON.stringify(unanswered.response),
      references.map(({ id }) => id),
      references.map(({ position }) => position),
      references.map(({ source }) => source),
      submission.workflowId,
      claimId ?? null,
      queue === 'batches',
    ],
  });
  const [row] = rows;
  if (!row) throw new Error('the insert of a submission returned nothing');
  return row;
}

/** The body hash and the response of an earlier request with this key. */
export async function readAccepted(
  db: Queryable,
  ownerId: string,
  key: string,
): Promise<{ bodyHash: Buffer; response: unknown } | undefined> {
  const { rows } = await db.query<{ bodyHash: Buffer; response: unknown }>(
    'select body_hash as "bodyHash", response from accepted_requests where owner_id = $1 and key = $2',
    [ownerId, key],
  );
  return rows[0];
}

/** Stores the response to the request with this key, once. Returns the earlier response and its body hash if there is one. */
async function rememberResponse(
  db: Queryable,
  { ownerId, key, bodyHash, response }: Remembered,
): Promise<{ bodyHash: Buffer; response: unknown } | undefined> {
  const { rowCount } = await db.query(
    `insert into accepted_requests (owner_id, key, body_hash, response) values ($1, $2, $3, $4)
     on conflict (owner_id, key) do nothing`,
    [ownerId, key, bodyHash, JSON.stringify(response)],
  );
  if (rowCount === 1) return undefined;
  const earlier = await readAccepted(db, ownerId, key);
  if (!earlier) throw new Error('an accepted request vanished while it was repeated');
  return earlier;
}

/** The time of the store when the first request with this key came, and the body hash of that request. */
export async function readOrStoreTime(
  db: Database,
  { ownerId, key, bodyHash }: Omit<Remembered, 'response'>,
): Promise<{ time: string; bodyHash: Buffer }> {
  const { rows } = await db.query<{ time: string; bodyHash: Buffer }>(
    `insert into accepted_requests (owner_id, key, body_hash, response) values ($1, $2, $3, to_jsonb(now()::text))
     on conflict (owner_id, key) do update set response = accepted_requests.response
     returning response as time, body_hash as "bodyHash"`,
    [ownerId, key, bodyHash],
  );
  return rows[0]!; // either the new row or the earlier one
}

/** All or none. With a claim ID, claims all tasks of a single submission without idempotency key if the queue has room. */
export async function insertSubmissions(
  db: Database,
  submissions: readonly NewSubmission[],
  queue: ResultQueue,
  remembered?: Remembered,
  unanswered?: UnansweredRequest & { response: unknown },
  claimId?: string,
): Promise<InsertOutcome> {
  const [first, ...others] = submissions;
  if (!first) return { kind: 'inserted' };
  if (others.length === 0 && !remembered) {
    const row = await insertOne(db, first, queue, unanswered, claimId);
    if (!row.accepted) return { kind: 'group-of-another-owner' };
    const { capabilities, rate, endpoint_owner_id: endpointOwnerId } = row;
    return { kind: 'inserted', ...(row.claimed ? { claimed: { capabilities, rate, endpointOwnerId } } : {}) };
  }
  try {
    return await inTransaction(db, async (client) => {
      if (remembered) {
        const earlier = await rememberResponse(client, remembered);
        if (earlier) return { kind: 'repeated', ...earlier };
      }
      for (const submission of submissions) {
        const { accepted } = await insertOne(client, submission, queue, submission === first ? unanswered : undefined);
        if (!accepted) throw new GroupOfAnotherOwnerError();
      }
      return { kind: 'inserted' };
    });
  } catch (error) {
    if (error instanceof GroupOfAnotherOwnerError) return { kind: 'group-of-another-owner' };
    throw error;
  }
}

/** Thrown to roll back the submissions of a request. */
class GroupOfAnotherOwnerError extends Error {}

/** Records that the workflows were started. The sweep starts submissions without this record. */
export async function markStarted(db: Database, starts: readonly Pick<SubmissionStart, 'id' | 'lastId'>[]): Promise<void> {
  await db.query({
    name: 'mark-started',
    text: `update submissions set started_at = now()
             from ${WITHOUT_FLUSH}, unnest($1::uuid[], $2::uuid[]) as started (first_id, last_id)
            where id >= started.first_id and id <= started.last_id and started_at is null`,
    values: [starts.map(({ id }) => id), starts.map(({ id, lastId }) => lastId ?? id)],
  });
}

const SUBMISSION_STARTS = `
  select coalesce(s.first_id, s.id) as id, s.last_id as "lastId", s.owner_id as "ownerId", i.name as "ownerName",
         s.endpoint_id as "endpointId", e.name as "endpointName", s.endpoint_queue_id as "endpointQueueId",
         s.task_group_id as "taskGroupId", s.function_name as "functionName",
         case when s.last_id is null then s.total else (
           select sum(other.total)::integer from submissions other where other.id >= s.first_id and other.id <= s.last_id) end as total,
         s.policy, s.deadline_at as deadline, workflow_of(s.id, s.workflow_id) as "workflowId"
    from submissions s join endpoints e on e.id = s.endpoint_id join identities i on i.id = s.owner_id`;

/** The inputs for these submissions, in the given order. None of them shares its workflow. */
export async function readSubmissionStarts(db: Database, ids: readonly string[]): Promise<SubmissionStart[]> {
  const { rows } = await db.query<SubmissionStart>(
    `${SUBMISSION_STARTS} where s.id = any ($1) order by array_position($1::uuid[], s.id)`,
    [ids],
  );
  return rows;
}

/** The workflows of submissions that were accepted before `olderThan` and whose start was not recorded, each workflow once. */
export async function listUnstarted(db: Database, olderThan: Date, limit: number): Promise<SubmissionStart[]> {
  const { rows } = await db.query<SubmissionStart>(
    `${SUBMISSION_STARTS} where s.started_at is null and s.created_at < $1 order by s.created_at limit $2`,
    [olderThan, limit],
  );
  return [...new Map(rows.map((start) => [start.id, start])).values()];
}

/**
 * Unfinished submissions whose tasks are all answered, or that have a deadline or a delayed task that was due more than `graceMs`
 * ago. A workflow normally acts within a moment, so a submission that is listed twice in a row has lost its workflow or its nudge.
 */
export async function listOverdueSubmissions(db: Database, graceMs: number, limit: number): Promise<SubmissionStart[]> {
  const { rows } = await db.query<SubmissionStart>({
    name: 'list-overdue-submissions',
    text: `(${SUBMISSION_STARTS} where s.finished_at is null and not s.is_open order by s.id limit $2)
           union
           (${SUBMISSION_STARTS}
             where s.finished_at is null and s.is_open and s.deadline_at < now() - $1::double precision * interval '1 millisecond'
             order by s.deadline_at limit $2)
           union
           (${SUBMISSION_STARTS}
             where s.finished_at is null and s.id = any (array(
               select distinct submission_of(t.id) from tasks t
                where t.state = 'delayed' and t.due_at < now() - $1::double precision * interval '1 millisecond'))
             order by s.id limit $2)`,
    values: [graceMs, limit],
  });
  return rows;
}

/** Unfinished submissions with IDs from `fromId` to before `beforeId`, each workflow once; the latest first. */
export async function listLatest(db: Database, fromId: string, beforeId: string, limit: number): Promise<SubmissionStart[]> {
  const { rows } = await db.query<SubmissionStart>(
    `${SUBMISSION_STARTS} where s.id >= $1 and s.id < $2 and s.finished_at is null order by s.id desc limit $3`,
    [fromId, beforeId, limit],
  );
  return [...new Map(rows.map((start) => [start.id, start])).values()];
}

export async function readUnfinished(db: Database, ids: readonly string[]): Promise<SubmissionStart[]> {
  if (ids.length === 0) return [];
  const { rows } = await db.query<SubmissionStart>(`${SUBMISSION_STARTS} where s.id = any ($1) and s.finished_at is null`, [ids]);
  return rows;
}
