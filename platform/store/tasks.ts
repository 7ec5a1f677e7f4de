import { taskIdOf } from '../../contracts/ids';
import type { TaskState } from '../../contracts/states';
import type { Database } from './database';
import type { ResultQueue } from './result-queue';

/** Reads tasks and task groups for the API. */

export interface TaskRow {
  id: string;
  ownerId: string;
  state: TaskState;
  attempt: number;
  functionId: string;
  functionName: string;
  endpointId: string;
  endpointName: string;
  taskGroupId: string;
  /** When the latest attempt was dispatched. */
  dispatchedAt: Date | null;
  /** When the agent reported that the latest attempt runs. */
  runningAt: Date | null;
  /** When a delayed task is retried. */
  dueAt: Date | null;
  answeredAt: Date | null;
  /** The last line of the failure after which the task is or was retried. */
  lastError: string | null;
  /** The result message of the answer, if there is one. */
  frame: Buffer | null;
}

const TASK_COLUMNS = `t.id, t.owner_id as "ownerId", t.state, t.attempt, t.function_id as "functionId", f.name as "functionName",
  q.endpoint_id as "endpointId", e.name as "endpointName", t.task_group_id as "taskGroupId", t.dispatched_at as "dispatchedAt",
  t.running_at as "runningAt", t.due_at as "dueAt", t.answered_at as "answeredAt", t.last_error as "lastError"`;
const FROM_TASKS = `from tasks t join endpoint_queues q on q.id = t.endpoint_queue_id join endpoints e on e.id = q.endpoint_id
  join functions f on f.id = t.function_id left join results r on r.id = t.id`;

export async function findTask(db: Database, id: string): Promise<TaskRow | undefined> {
  const { rows } = await db.query<TaskRow>({
    name: 'find-task',
    text: `select ${TASK_COLUMNS}, r.frame ${FROM_TASKS} where t.id = $1`,
    values: [id],
  });
  return rows[0];
}

export interface TaskSize extends Omit<TaskRow, 'frame'> {
  /** Bytes of the result message; 0 without an answer. */
  frameBytes: number;
}

/** Tasks without their results. Omits unknown IDs and tasks of other owners. */
export async function sizeTasks(db: Database, ownerId: string, ids: readonly string[]): Promise<TaskSize[]> {
  const { rows } = await db.query<TaskSize>({
    name: 'size-tasks',
    text: `select ${TASK_COLUMNS}, coalesce(octet_length(r.frame), 0) as "frameBytes" ${FROM_TASKS} where t.id = any ($1) and t.owner_id = $2`,
    values: [ids, ownerId],
  });
  return rows;
}

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

export interface TaskGroupRow {
  id: string;
  ownerId: string;
  lastSeq: number;
  hasQueue: boolean;
  hasBatchQueue: boolean;
}

export async function findTaskGroup(db: Database, id: string): Promise<TaskGroupRow | undefined> {
  const { rows } = await db.query<TaskGroupRow>({
    name: 'find-task-group',
    text: `select id, owner_id as "ownerId", last_seq as "lastSeq", has_queue as "hasQueue", has_batch_queue as "hasBatchQueue"
             from task_groups where id = $1`,
    values: [id],
  });
  return rows[0];
}

/** From now on, the answers of the group are also published to this queue. It must exist. */
export async function addResultQueue(db: Database, groupId: string, queue: Exclude<ResultQueue, 'none'>): Promise<void> {
  const column = queue === 'single' ? 'has_queue' : 'has_batch_queue';
  await db.query(`update task_groups set ${column} = true where id = $1`, [groupId]);
}

export async function listGroupTaskIds(db: Database, groupId: string): Promise<string[]> {
  // Task IDs are derived from submission IDs, so the partitions of tasks need not be read.
  const { rows: submissions } = await db.query<{ id: string; total: number }>(
    'select id, total from submissions where task_group_id = $1 order by id',
    [groupId],
  );
  return submissions.flatMap(({ id, total }) => Array.from({ length: total }, (_, index) => taskIdOf(id, index + 1)));
}

export async function readLastSeqs(db: Database, groupIds: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await db.query<Pick<TaskGroupRow, 'id' | 'lastSeq'>>({
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

/** A page ends where its frames exceed this size, but has at least one frame. */
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
