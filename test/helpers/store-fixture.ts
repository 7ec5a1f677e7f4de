import { randomBytes, randomUUID } from 'node:crypto';

import { encodeFrame } from '../../contracts/frames';
import { ID_RANDOM_BYTES, makeSubmissionId, taskIdOf } from '../../contracts/ids';
import type { Policy } from '../../contracts/policy';
import type { TaskState } from '../../contracts/states';
import { claimTasks, type ClaimedTask } from '../../platform/store/claims';
import type { Database } from '../../platform/store/database';
import type { ResultQueue } from '../../platform/store/result-queue';
import { insertSubmissions } from '../../platform/store/submissions';

/** Rows for tests of the store: an owner, an endpoint of it, a function; submissions and claims by one call each. */

export interface StoreFixture {
  ownerId: string;
  endpointId: string;
  functionId: string;
}

export async function makeFixture(db: Database, options: { window?: number; isOnline?: boolean } = {}): Promise<StoreFixture> {
  const [ownerId, endpointId, functionId] = [await makeOwner(db), randomUUID(), randomUUID()];
  await db.query(`insert into endpoints (id, owner_id, name, kind) values ($1, $2, 'e', 'agent')`, [endpointId, ownerId]);
  await db.query(
    `insert into endpoint_queues (id, endpoint_id, is_online, window_size, window_floor, window_span_s) values ($1, $1, $2, $3, $3, 0)`,
    [endpointId, options.isOnline ?? true, options.window ?? 1_000],
  );
  await db.query(`insert into functions (id, owner_id, name, code, is_serialized) values ($1, $2, 'f', 'code', false)`, [
    functionId,
    ownerId,
  ]);
  return { ownerId, endpointId, functionId };
}

export async function makeOwner(db: Database): Promise<string> {
  const id = randomUUID();
  await db.query(`insert into identities (id, name, secret_hash) values ($1, $2, 'x')`, [id, id]);
  return id;
}

export async function submit(
  db: Database,
  { ownerId, endpointId, functionId }: StoreFixture,
  tasks: number,
  options: {
    policy?: Policy;
    queue?: ResultQueue;
    groupId?: string;
    nowMs?: number;
    ownerId?: string;
    payload?: string;
    isClaimed?: boolean;
  } = {},
): Promise<{ submissionId: string; groupId: string; taskIds: string[]; isClaimed: boolean }> {
  const id = makeSubmissionId(options.nowMs ?? Date.now(), randomBytes(ID_RANDOM_BYTES));
  const groupId = options.groupId ?? randomUUID();
  const outcome = await insertSubmissions(
    db,
    [
      {
        id,
        workflowId: `submission/${id}-f-on-e`,
        ownerId: options.ownerId ?? ownerId,
        endpointId,
        endpointQueueId: endpointId,
        taskGroupId: groupId,
        functionName: 'f',
        policy: options.policy ?? {},
        deadline: new Date(Date.now() + 3_600_000),
        tasks: Array.from({ length: tasks }, () => ({ functionId, payload: Buffer.from(options.payload ?? 'args') })),
      },
    ],
    options.queue ?? 'none',
    undefined,
    undefined,
    options.isClaimed ? `${id}/0` : undefined,
  );
  const isClaimed = outcome.kind === 'inserted' && outcome.claimed !== undefined;
  return { submissionId: id, groupId, isClaimed, taskIds: Array.from({ length: tasks }, (_, index) => taskIdOf(id, index + 1)) };
}

export const claim = (db: Database, { endpointId }: StoreFixture, claimId = randomUUID() as string): Promise<ClaimedTask[]> =>
  claimTasks(db, endpointId, claimId, { tasks: 500, bytes: 1 << 25, inlineBytes: 1_000_000 });

export const frame = (taskId: string, data = 'value'): Uint8Array =>
  encodeFrame({ message_type: 'result', data: { task_id: taskId, data } });

export async function stateOf(db: Database, taskId: string): Promise<TaskState> {
  const { rows } = await db.query<{ state: TaskState }>('select state from tasks where id = $1', [taskId]);
  return rows[0]!.state; // the test made it
}

export async function inFlight(db: Database, { endpointId }: StoreFixture): Promise<{ counted: number; found: number }> {
  const { rows } = await db.query<{ counted: number; found: number }>(
    `select q.in_flight as counted,
            (select count(*)::integer from tasks t where t.endpoint_queue_id = q.id and t.state in ('dispatched', 'running')) as found
       from endpoint_queues q where q.id = $1`,
    [endpointId],
  );
  return rows[0]!; // the test made it
}

export async function openOf(db: Database, submissionId: string): Promise<number> {
  const { rows } = await db.query<{ open: number }>('select open from submissions where id = $1', [submissionId]);
  return rows[0]!.open; // the test made it
}
