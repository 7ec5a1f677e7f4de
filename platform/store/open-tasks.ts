import type { Database } from './database';
import { WALLTIME_GRACE_MS } from './submission-progress';

/** Tasks without an answer, and the submissions that have some. */

export interface OpenTask {
  id: string;
  /** The latest attempt; 0 before the first dispatch. */
  attempt: number;
}

/** Tasks of a submission without an answer. */
export async function listOpenTasks(db: Database, submissionId: string): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>(
    `select id, attempt from tasks
      where id > $1 and id <= last_task_of($1) and is_open(state) order by id`,
    [submissionId],
  );
  return rows;
}

/** Running attempts that exceed the walltime plus grace. */
export async function listOverdue(db: Database, submissionId: string, walltimeMs: number): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>(
    `select id, attempt from tasks
      where id > $1 and id <= last_task_of($1) and state = 'running'
        and running_at < now() - ($2::double precision * interval '1 millisecond') order by id`,
    [submissionId, walltimeMs + WALLTIME_GRACE_MS],
  );
  return rows;
}

/** The open ones of these tasks, by endpoint queue. */
export async function listOpenOfTasks(db: Database, taskIds: readonly string[]): Promise<Map<string, OpenTask[]>> {
  const { rows } = await db.query<OpenTask & { endpoint_queue_id: string }>(
    `select id, attempt, endpoint_queue_id from tasks
      where id = any ($1) and is_open(state) order by id`,
    [taskIds],
  );
  const byQueue = new Map<string, OpenTask[]>();
  for (const { endpoint_queue_id, ...task } of rows)
    byQueue.set(endpoint_queue_id, [...(byQueue.get(endpoint_queue_id) ?? []), task]);
  return byQueue;
}

export type OpenSubmissionsOf = { submissionId: string } | { taskGroupId: string } | { endpointId: string };

export interface OpenSubmission {
  id: string;
  workflowId: string;
  endpointQueueId: string;
  open: number;
}

/** Submissions with open tasks: one submission, those of a task group, or those of an endpoint. */
export async function listOpenSubmissions(db: Database, of: OpenSubmissionsOf): Promise<OpenSubmission[]> {
  const [column, value] =
    'submissionId' in of
      ? ['id', of.submissionId]
      : 'taskGroupId' in of
        ? ['task_group_id', of.taskGroupId]
        : ['endpoint_id', of.endpointId];
  const { rows } = await db.query<OpenSubmission>(
    `select id, workflow_of(id, workflow_id) as "workflowId", endpoint_queue_id as "endpointQueueId", open
       from submissions where ${column} = $1 and is_open order by id`,
    [value],
  );
  return rows;
}

/** The number of open tasks of an owner. */
export async function countOpenTasks(db: Database, ownerId: string): Promise<number> {
  const { rows } = await db.query<{ open: string }>({
    name: 'open-of-owner',
    text: 'select coalesce(sum(open), 0) as open from submissions where owner_id = $1 and is_open',
    values: [ownerId],
  });
  return Number(rows[0]?.open ?? 0);
}

/** The endpoint queues of an endpoint. */
export async function listQueueIds(db: Database, endpointId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>('select id from endpoint_queues where endpoint_id = $1 order by id', [
    endpointId,
  ]);
  return rows.map(({ id }) => id);
}
