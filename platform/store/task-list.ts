import type { TaskState } from '../../contracts/states';
import type { Database } from './database';
import type { TaskRow } from './tasks';

/** Tasks of a submission or a task group, page by page, and the bodies of tasks that are submitted again. */

export type TasksOf = { submissionId: string } | { taskGroupId: string };

export interface TaskFilter {
  /** Empty: every state. */
  states: readonly TaskState[];
  /** Only tasks with a higher ID. */
  after?: string;
  limit: number;
}

/** A page ends where its frames or bodies exceed this size, but has at least one task. */
const MAX_PAGE_BYTES = 16 * 1024 * 1024;
const LOWEST_ID = '00000000-0000-0000-0000-000000000000';

/** The index of submissions by ID or by group finds the submissions; the range of IDs finds their tasks. */
const tasksOf = (of: TasksOf): string => `
  from submissions s
  join tasks t on t.id > greatest(s.id, $2::uuid) and t.id <= last_task_of(s.id)
 where s.${'submissionId' in of ? 'id' : 'task_group_id'} = $1 and last_task_of(s.id) > $2::uuid
   and (cardinality($3::text[]) = 0 or t.state = any ($3))`;

const idOf = (of: TasksOf): string => ('submissionId' in of ? of.submissionId : of.taskGroupId);

/** Tasks in the order of their IDs. `frame` is set only for tasks that ended without a value; values are not read. */
export async function listTasks(db: Database, of: TasksOf, { states, after, limit }: TaskFilter): Promise<TaskRow[]> {
  const { rows } = await db.query<TaskRow>(
    `with page as (
       select t.id, t.owner_id, t.state, t.attempt, t.function_id, t.endpoint_queue_id, t.task_group_id, t.dispatched_at, t.running_at,
              t.due_at, t.answered_at, t.last_error ${tasksOf(of)} order by t.id limit $4
     ), framed as (
       select p.*, r.frame,
              sum(coalesce(octet_length(r.frame), 0)::bigint) over (order by p.id) - coalesce(octet_length(r.frame), 0) as before
         from page p left join results r on r.id = p.id and p.state in ('failed', 'cancelled', 'expired')
     )
     select p.id, p.owner_id as "ownerId", p.state, p.attempt, p.function_id as "functionId", f.name as "functionName",
            q.endpoint_id as "endpointId", e.name as "endpointName", p.task_group_id as "taskGroupId",
            p.dispatched_at as "dispatchedAt", p.running_at as "runningAt", p.due_at as "dueAt", p.answered_at as "answeredAt",
            p.last_error as "lastError", p.frame
       from framed p join functions f on f.id = p.function_id join endpoint_queues q on q.id = p.endpoint_queue_id
            join endpoints e on e.id = q.endpoint_id
      where p.before < ${MAX_PAGE_BYTES} order by p.id`,
    [idOf(of), after ?? LOWEST_ID, states, limit],
  );
  return rows;
}

export interface TaskBody {
  id: string;
  functionId: string;
  /** Packed arguments; null if they refer to a result that no longer exists. */
  body: Buffer | null;
}

/** Bodies of the tasks of a submission that ended in these states until a time of the store, in the order of their IDs. */
export async function readBodies(
  db: Database,
  submissionId: string,
  { states, after, limit, until }: TaskFilter & { until: string },
): Promise<TaskBody[]> {
  const { rows } = await db.query<TaskBody>(
    `with page as (
       select t.id, t.function_id, t.payload_size ${tasksOf({ submissionId })} and t.answered_at <= $5::timestamptz
        order by t.id limit $4
     ), sized as (
       select p.*, sum(p.payload_size::bigint) over (order by p.id) - p.payload_size as before from page p
     )
     select p.id, p.function_id as "functionId", task_payload(p.id) as body from sized p
      where p.before < ${MAX_PAGE_BYTES} order by p.id`,
    [submissionId, after ?? LOWEST_ID, states, limit, until],
  );
  return rows;
}

export interface RepeatedSubmission {
  endpointId: string;
  functionName: string;
  policy: Record<string, unknown>;
  resourceSpecification: Record<string, unknown> | null;
  resultSerializers: string[] | null;
  /** Configuration of the user endpoint. */
  config: Record<string, unknown>;
  runtime: Record<string, unknown>;
}

export async function readSubmitted(db: Database, submissionId: string): Promise<RepeatedSubmission | undefined> {
  const { rows } = await db.query<RepeatedSubmission>(
    `select s.endpoint_id as "endpointId", s.function_name as "functionName", s.policy,
            s.resource_specification as "resourceSpecification", s.result_serializers as "resultSerializers", q.config, q.runtime
       from submissions s join endpoint_queues q on q.id = s.endpoint_queue_id where s.id = $1`,
    [submissionId],
  );
  return rows[0];
}

/** Submissions of a group in which some task ended without a value, oldest first. */
export async function listGroupSubmissionIds(db: Database, taskGroupId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select id from submissions where task_group_id = $1 and failed + cancelled + expired > 0 order by id',
    [taskGroupId],
  );
  return rows.map(({ id }) => id);
}
