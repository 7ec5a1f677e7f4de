import { taskIdOf } from '../../contracts/ids';
import type { SubmissionState, TaskState } from '../../contracts/states';
import type { Database } from './database';

/** Tasks, task groups and submissions, as the API reads them. Every read names the owner. */

export interface TaskRow {
  id: string;
  state: TaskState;
  attempt: number;
  functionId: string;
  endpointId: string;
  taskGroupId: string;
  answeredAt: Date | null;
  /** The result message of the answer, if there is one. */
  frame: Buffer | null;
}

const TASK_COLUMNS = `t.id, t.state, t.attempt, t.function_id as "functionId", q.endpoint_id as "endpointId",
  t.task_group_id as "taskGroupId", t.answered_at as "answeredAt"`;
const FROM_TASKS = 'from tasks t join endpoint_queues q on q.id = t.endpoint_queue_id left join results r on r.id = t.id';

export async function findTask(db: Database, ownerId: string, id: string): Promise<TaskRow | undefined> {
  const { rows } = await db.query<TaskRow>({
    name: 'find-task',
    text: `select ${TASK_COLUMNS}, r.frame ${FROM_TASKS} where t.id = $1 and t.owner_id = $2`,
    values: [id, ownerId],
  });
  return rows[0];
}

export interface TaskSize extends Omit<TaskRow, 'frame'> {
  /** Bytes of the result message; 0 without an answer. */
  frameBytes: number;
}

/** Tasks without their results. Omits unknown ids and tasks of other owners. */
export async function sizeTasks(db: Database, ownerId: string, ids: readonly string[]): Promise<TaskSize[]> {
  const { rows } = await db.query<TaskSize>({
    name: 'size-tasks',
    text: `select ${TASK_COLUMNS}, coalesce(octet_length(r.frame), 0) as "frameBytes" ${FROM_TASKS} where t.id = any ($1) and t.owner_id = $2`,
    values: [ids, ownerId],
  });
  return rows;
}

/** Result messages by task id. */
export async function readFrames(db: Database, ids: readonly string[]): Promise<Map<string, Buffer>> {
  const { rows } = await db.query<{ id: string; frame: Buffer }>({
    name: 'read-frames',
    text: 'select id, frame from results where id = any ($1)',
    values: [ids],
  });
  return new Map(rows.map(({ id, frame }) => [id, frame]));
}

/** The task buffer: code, then payload. Undefined when the task or a referenced result no longer exists. */
export async function readTaskBody(db: Database, id: string): Promise<Buffer | undefined> {
  const { rows } = await db.query<{ code: Buffer; body: Buffer | null }>(
    `select f.code, task_payload(t.id) as body from tasks t join payloads p on p.id = t.id join functions f on f.id = t.function_id
      where t.id = $1 and p.id = $1`,
    [id],
  );
  const [row] = rows;
  return row?.body ? Buffer.concat([row.code, row.body]) : undefined;
}

/** Stores an uploaded value until the result message that announces it is stored. */
export async function saveUpload(db: Database, taskId: string, attempt: number, body: Buffer): Promise<void> {
  await db.query(
    `insert into uploads (id, attempt, body) values ($1, $2, $3) on conflict (id, attempt) do update set body = excluded.body`,
    [taskId, attempt, body],
  );
}

export interface TaskGroupRow {
  id: string;
  lastSeq: number;
}

export async function findTaskGroup(db: Database, ownerId: string, id: string): Promise<TaskGroupRow | undefined> {
  const { rows } = await db.query<TaskGroupRow>({
    name: 'find-task-group',
    text: 'select id, last_seq as "lastSeq" from task_groups where id = $1 and owner_id = $2',
    values: [id, ownerId],
  });
  return rows[0];
}

export async function listGroupTaskIds(db: Database, groupId: string): Promise<string[]> {
  // Task ids follow from the submissions, so the partitions of the tasks are not read.
  const { rows: submissions } = await db.query<{ id: string; total: number }>(
    'select id, total from submissions where task_group_id = $1 order by id',
    [groupId],
  );
  return submissions.flatMap(({ id, total }) => Array.from({ length: total }, (_, index) => taskIdOf(id, index + 1)));
}

/** The latest sequence number of each group. */
export async function readLastSeqs(db: Database, groupIds: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await db.query<TaskGroupRow>({
    name: 'last-seqs',
    text: 'select id, last_seq as "lastSeq" from task_groups where id = any ($1)',
    values: [groupIds],
  });
  return new Map(rows.map((row) => [row.id, row.lastSeq]));
}

export interface GroupResultRow {
  id: string;
  seq: number;
  frame: Buffer;
  answeredAt: Date;
}

/** A page ends where its frames exceed this size; it has at least one. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

/** Answers of a group after the sequence number `after`, in order. */
export async function listGroupResults(db: Database, groupId: string, after: number, limit: number): Promise<GroupResultRow[]> {
  const { rows } = await db.query<GroupResultRow>({
    name: 'group-results',
    text: `select id, seq, frame, "answeredAt" from (
             select r.id, r.seq, r.frame, r.answered_at as "answeredAt",
                    sum(octet_length(r.frame)::bigint) over (order by r.seq) - octet_length(r.frame) as before
               from results r where r.task_group_id = $1 and r.seq > $2 order by r.seq limit $3) page
            where before < ${MAX_PAGE_BYTES} order by seq`,
    values: [groupId, after, limit],
  });
  return rows;
}

export interface SubmissionRow {
  id: string;
  endpointId: string;
  endpointName: string;
  taskGroupId: string;
  functionName: string;
  state: SubmissionState;
  total: number;
  open: number;
  policy: Record<string, unknown>;
  deadline: Date;
  createdAt: Date;
  finishedAt: Date | null;
}

const SELECT_SUBMISSION = `
  select s.id, s.endpoint_id as "endpointId", e.name as "endpointName", s.task_group_id as "taskGroupId",
         s.function_name as "functionName", s.state, s.total, s.open, s.policy, s.deadline_at as deadline,
         s.created_at as "createdAt", s.finished_at as "finishedAt"
    from submissions s join endpoints e on e.id = s.endpoint_id`;

export async function findSubmission(db: Database, ownerId: string, id: string): Promise<SubmissionRow | undefined> {
  const { rows } = await db.query<SubmissionRow>(`${SELECT_SUBMISSION} where s.id = $1 and s.owner_id = $2`, [id, ownerId]);
  return rows[0];
}

export async function countTaskStates(db: Database, submissionId: string): Promise<Partial<Record<TaskState, number>>> {
  const { rows } = await db.query<{ state: TaskState; n: number }>(
    'select state, count(*)::integer as n from tasks where id > $1 and id <= last_task_of($1) group by state',
    [submissionId],
  );
  return Object.fromEntries(rows.map(({ state, n }) => [state, n]));
}

/** Newest first. */
export async function listSubmissions(
  db: Database,
  ownerId: string,
  filter: { endpointId?: string; state?: SubmissionState; limit: number },
): Promise<SubmissionRow[]> {
  const { rows } = await db.query<SubmissionRow>(
    `${SELECT_SUBMISSION} where s.owner_id = $1 and ($2::uuid is null or s.endpoint_id = $2) and ($3::text is null or s.state = $3)
      order by s.id desc limit $4`,
    [ownerId, filter.endpointId ?? null, filter.state ?? null, filter.limit],
  );
  return rows;
}
