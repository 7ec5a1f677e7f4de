import type { SubmissionState, TaskState } from '../../contracts/states';
import type { Database } from './database';

/** Reads submissions for the API. */

export interface SubmissionRow {
  id: string;
  workflowId: string;
  ownerId: string;
  ownerName: string;
  endpointId: string;
  endpointName: string;
  taskGroupId: string;
  functionName: string;
  state: SubmissionState;
  total: number;
  open: number;
  failed: number;
  cancelled: number;
  expired: number;
  policy: Record<string, unknown>;
  deadline: Date;
  createdAt: Date;
  finishedAt: Date | null;
}

const SELECT_SUBMISSION = `
  select s.id, workflow_of(s.id, s.workflow_id) as "workflowId", s.owner_id as "ownerId", i.name as "ownerName",
         s.endpoint_id as "endpointId", e.name as "endpointName", s.task_group_id as "taskGroupId",
         s.function_name as "functionName", s.state, s.total, s.open, s.failed, s.cancelled, s.expired, s.policy,
         s.deadline_at as deadline, s.created_at as "createdAt", s.finished_at as "finishedAt"
    from submissions s join endpoints e on e.id = s.endpoint_id join identities i on i.id = s.owner_id`;

export async function findSubmission(db: Database, id: string): Promise<SubmissionRow | undefined> {
  const { rows } = await db.query<SubmissionRow>(`${SELECT_SUBMISSION} where s.id = $1`, [id]);
  return rows[0];
}

export async function countTaskStates(db: Database, submissionId: string): Promise<Partial<Record<TaskState, number>>> {
  const { rows } = await db.query<{ state: TaskState; n: number }>(
    'select state, count(*)::integer as n from tasks where id > $1 and id <= last_task_of($1) group by state',
    [submissionId],
  );
  return Object.fromEntries(rows.map(({ state, n }) => [state, n]));
}

export interface SubmissionFilter {
  /** Absent: submissions of every owner. */
  ownerId?: string;
  endpointId?: string;
  taskGroupId?: string;
  state?: SubmissionState;
  /** Only submissions with failed or expired tasks. */
  isFailed: boolean;
  isOpen: boolean;
  ids?: { from: string; to: string };
  limit: number;
}

/** Newest first. */
export async function listSubmissions(db: Database, filter: SubmissionFilter): Promise<SubmissionRow[]> {
  const conditions: string[] = [];
  const values: unknown[] = [];
  const add = (condition: string, value: unknown): void => {
    if (value !== undefined) conditions.push(condition.replace('?', `$${values.push(value)}`));
  };
  add('s.owner_id = ?', filter.ownerId);
  add('s.endpoint_id = ?', filter.endpointId);
  add('s.task_group_id = ?', filter.taskGroupId);
  add('s.state = ?', filter.state);
  add('s.id >= ?', filter.ids?.from);
  add('s.id <= ?', filter.ids?.to);
  if (filter.isFailed) conditions.push('s.failed + s.expired > 0');
  if (filter.isOpen) conditions.push('s.open > 0');
  const where = conditions.length === 0 ? '' : `where ${conditions.join(' and ')}`;
  const { rows } = await db.query<SubmissionRow>(
    `${SELECT_SUBMISSION} ${where} order by s.id desc limit $${values.push(filter.limit)}`,
    values,
  );
  return rows;
}
