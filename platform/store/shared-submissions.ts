import { taskIdOf } from '../../contracts/ids';
import type { Database } from './database';
import type { ResultQueue } from './result-queue';
import type { NewSubmission, Remembered } from './submissions';
import type { UnansweredRequest } from './unanswered-requests';

/** Inserts submissions of several requests that are accepted together and share a workflow. */

export interface SharedRequest {
  submission: NewSubmission;
  remembered?: Remembered | undefined;
  unanswered?: (UnansweredRequest & { response: unknown }) | undefined;
}

/** One statement inserts the group, all submissions, their tasks and bodies, and the records of the requests. */
const INSERT_SHARED = `
  with grouped as (
    insert into task_groups (id, owner_id, has_queue, has_batch_queue) values ($1, $2, $3, $32)
    on conflict (id) do update set
        has_queue = task_groups.has_queue or excluded.has_queue,
        has_batch_queue = task_groups.has_batch_queue or excluded.has_batch_queue
      where task_groups.owner_id = excluded.owner_id
    returning id
  ), given as (
    select one.* from grouped, unnest($4::uuid[], $5::text[], $6::integer[], $7::text[], $8::text[], $9::bytea[], $10::jsonb[],
                               $31::bigint[])
      as one (id, function_name, total, traceparent, key, body_hash, response, bytes)
  ), remembered as (
    insert into accepted_requests (owner_id, key, body_hash, response)
    select $2, given.key, given.body_hash, given.response from given where given.key is not null
    on conflict (owner_id, key) do nothing
    returning key
  ), submitted as (
    insert into submissions (id, owner_id, endpoint_id, endpoint_queue_id, task_group_id, function_name, total, open, policy,
                             resource_specification, result_serializers, traceparent, deadline_at, workflow_id, first_id, last_id,
                             stored_bytes)
    select given.id, $2, $11, $12, $1, given.function_name, given.total, given.total, $13, $14, $15, given.traceparent, $16, $17,
           $18, $19, given.bytes
      from given where given.key is null or given.key in (select remembered.key from remembered)
    returning id
  ), bodies as (
    insert into payloads (id, body)
    select b.id, b.body from unnest($20::uuid[], $21::uuid[], $22::bytea[]) as b (submission_id, id, body)
      join submitted on submitted.id = b.submission_id
  ), inserted as (
    insert into tasks (id, owner_id, endpoint_queue_id, task_group_id, function_id, payload_size)
    select b.id, $2, $12, $1, b.function_id, b.size
      from unnest($20::uuid[], $21::uuid[], $23::uuid[], $24::integer[]) as b (submission_id, id, function_id, size)
      join submitted on submitted.id = b.submission_id
  ), unanswered as (
    insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response)
    select u.id, $2, $11, u.body_hash, u.listener, u.process, u.response
      from unnest($25::uuid[], $26::uuid[], $27::bytea[], $28::text[], $29::uuid[], $30::jsonb[])
        as u (submission_id, id, body_hash, listener, process, response)
      join submitted on submitted.id = u.submission_id
  )
  select exists (select from grouped) as "hasGroup", coalesce((select array_agg(id) from submitted), '{}') as ids`;

/** Options must be equal, IDs consecutive, keys different. Returns the inserted IDs: those whose key was not used before. */
export async function insertShared(
  db: Database,
  requests: readonly SharedRequest[],
  queue: ResultQueue,
): Promise<Set<string> | 'group-of-another-owner'> {
  const submissions = requests.map(({ submission }) => submission);
  const [first, last] = [submissions[0], submissions.at(-1)];
  if (!first || !last) return new Set();
  const tasks = submissions.flatMap((submission) =>
    submission.tasks.map((task, index) => ({ ...task, submissionId: submission.id, id: taskIdOf(submission.id, index + 1) })),
  );
  const unanswered = requests.flatMap((one) =>
    one.unanswered === undefined ? [] : [{ submissionId: one.submission.id, ...one.unanswered }],
  );
  const { rows } = await db.query<{ hasGroup: boolean; ids: string[] }>({
    name: 'insert-shared',
    text: INSERT_SHARED,
    values: [
      first.taskGroupId,
      first.ownerId,
      queue === 'single',
      submissions.map(({ id }) => id),
      submissions.map(({ functionName }) => functionName),
      submissions.map(({ tasks: own }) => own.length),
      submissions.map(({ traceparent }) => traceparent ?? null),
      requests.map(({ remembered }) => remembered?.key ?? null),
      requests.map(({ remembered }) => remembered?.bodyHash ?? null),
      requests.map(({ remembered }) => (remembered === undefined ? null : JSON.stringify(remembered.response))),
      first.endpointId,
      first.endpointQueueId,
      JSON.stringify(first.policy),
      first.resourceSpecification === undefined ? null : JSON.stringify(first.resourceSpecification),
      first.resultSerializers ?? null,
      first.deadline,
      first.workflowId,
      first.id,
      last.id,
      tasks.map(({ submissionId }) => submissionId),
      tasks.map(({ id }) => id),
      tasks.map(({ payload }) => payload),
      tasks.map(({ functionId }) => functionId),
      tasks.map(({ payload }) => payload.length),
      unanswered.map(({ submissionId }) => submissionId),
      unanswered.map(({ id }) => id),
      unanswered.map(({ bodyHash }) => bodyHash),
      unanswered.map(({ listener }) => listener),
      unanswered.map(({ process }) => process),
      unanswered.map(({ response }) => JSON.stringify(response)),
      submissions.map(({ tasks: own }) => own.reduce((sum, { payload }) => sum + payload.length, 0)),
      queue === 'batches',
    ],
  });
  const [row] = rows;
  return row?.hasGroup ? new Set(row.ids) : 'group-of-another-owner';
}
