import type { Database } from './database';
import { WALLTIME_GRACE_MS } from './submission-progress';

/** Tasks without an answer, and submissions with such tasks. */

export interface OpenTask {
  id: string;
  /** The latest attempt; 0 before the first dispatch. */
  attempt: number;
}

/** Tasks without an answer of a submission, or of all submissions up to `lastId`. */
export async function listOpenTasks(db: Database, submissionId: string, lastId = submissionId): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>(
    `select id, attempt from tasks
      where id > $1 and id <= last_task_of($2) and is_open(state) order by id`,
    [submissionId, lastId],
  );
  return rows;
}

/** Running attempts that exceed the walltime plus the grace period. */
export async function listOverdue(
  db: Database,
  submissionId: string,
  walltimeMs: number,
  lastId = submissionId,
): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>(
    `select id, attempt from tasks
      where id > $1 and id <= last_task_of($3) and state = 'running'
        and running_at < now() - ($2::double precision * interval '1 millisecond') order by id`,
    [submissionId, walltimeMs + WALLTIME_GRACE_MS, lastId],
  );
  return rows;
}

/** The given tasks that are open, by endpoint queue. */
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

export type OpenSubmissionsOf =
  | { submissionId: string }
  /** All submissions that share a workflow; the ID is that of the first one. */
  | { firstId: string }
  | { taskGroupId: string }
  | { endpointId: string };

export interface OpenSubmission {
  id: string;
  /** Other submissions run in the same workflow. */
  isShared: boolean;
  workflowId: string;
  endpointQueueId: string;
  open: number;
}

export async function listOpenSubmissions(db: Database, of: OpenSubmissionsOf): Promise<OpenSubmission[]> {
  const [condition, value] =
    'submissionId' in of
      ? ['id = $1', of.submissionId]
      : 'firstId' in of
        ? ['id >= $1 and id <= coalesce((select last_id from submissions where id = $1), $1)', of.firstId]
        : 'taskGroupId' in of
          ? ['task_group_id = $1', of.taskGroupId]
          : ['endpoint_id = $1', of.endpointId];
  const { rows } = await db.query<OpenSubmission>(
    `select id, last_id is not null as "isShared", workflow_of(id, workflow_id) as "workflowId",
            endpoint_queue_id as "endpointQueueId", open
       from submissions where ${condition} and is_open order by id`,
    [value],
  );
  return rows;
}

export async function listQueueIds(db: Database, endpointId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>('select id from endpoint_queues where endpoint_id = $1 order by id', [
    endpointId,
  ]);
  return rows.map(({ id }) => id);
}
