import type { Database } from './database';
import { readFunctionCodes } from './function-codes';
import { WITHOUT_FLUSH } from './without-flush';

/** Claims: the transactions that take waiting tasks for dispatch. */

export interface ClaimedTask {
  id: string;
  attempt: number;
  functionId: string;
  ownerId: string;
  /** The task's owner owns the endpoint. */
  isOwn: boolean;
  /** Packed code of the function; tasks of one function share the buffer. */
  code: Buffer;
  /** SHA-256 of the code in hex. */
  codeHash: string;
  /** Null when the body exceeds the inline limit; the agent then fetches it over HTTP. */
  payload: Buffer | null;
  resourceSpecification: Record<string, unknown> | null;
  resultSerializers: string[] | null;
  walltimeMs: number | null;
  traceparent: string | null;
  /** The first referenced task whose result no longer exists; null if all referenced results exist. */
  missingSource: string | null;
  /** The capabilities that the current incarnation of the queue's agent announced. */
  capabilities: string[];
  /** Measured rate of the queue, in results per second. */
  rate: number;
}

export interface ClaimBounds {
  tasks: number;
  bytes: number;
  inlineBytes: number;
  /** Only tasks with IDs after `fromId` up to `toId` are claimed, and none while others wait in the queue. */
  only?: { fromId: string; toId: string } | undefined;
}

/** Claims within the window. Repeating a claim ID returns its tasks that are still dispatched, to complete the dispatch. */
export async function claimTasks(db: Database, queueId: string, claimId: string, bounds: ClaimBounds): Promise<ClaimedTask[]> {
  const { rows } = await db.query<Omit<ClaimedTask, 'code' | 'codeHash' | 'isOwn'> & { endpointOwnerId: string }>({
    name: 'claim-tasks',
    text: `select id, attempt, function_id as "functionId", payload, resource_specification as "resourceSpecification",
                  result_serializers as "resultSerializers", walltime_ms as "walltimeMs", traceparent,
                  missing_source as "missingSource", capabilities, rate,
                  (select s.owner_id from submissions s where s.id = submission_of(loaded.id)) as "ownerId",
                  (select e.owner_id from endpoint_queues q join endpoints e on e.id = q.endpoint_id where q.id = $1)
                    as "endpointOwnerId"
             from claim_and_load($1, $2, $3, $4, $5, $6, $7) loaded`,
    values: [queueId, claimId, bounds.tasks, bounds.bytes, bounds.inlineBytes, bounds.only?.fromId, bounds.only?.toId],
  });
  if (rows.length === 0) return [];
  const codes = await readFunctionCodes(
    db,
    rows.map((task) => task.functionId),
  );
  return rows.map(({ endpointOwnerId, ...task }) => {
    const { code = Buffer.alloc(0), hash = '' } = codes.get(task.functionId) ?? {};
    return { ...task, isOwn: task.ownerId === endpointOwnerId, code, codeHash: hash };
  });
}

/** True, at most once in 15 s, when tasks wait at an online queue without a live pump: signal the endpoint's workflow then. */
export async function askForPump(db: Database, queueId: string): Promise<boolean> {
  const { rows } = await db.query<{ asked: boolean }>({
    name: 'ask-for-pump',
    text: 'select ask_for_pump($1) as asked',
    values: [queueId],
  });
  return rows[0]?.asked ?? false;
}

/** Call after a failed signal, so that the next caller can signal immediately. */
export async function forgetPump(db: Database, queueId: string): Promise<void> {
  await db.query('update endpoint_queues set pump_alive_at = null where id = $1', [queueId]);
}

/** Returns the given queues that are online and have room in their windows. */
export async function listQueuesWithRoom(db: Database, queueIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'list-roomy',
    text: 'select id from endpoint_queues where id = any ($1) and is_online and in_flight < window_size',
    values: [queueIds],
  });
  return rows.map(({ id }) => id);
}

/**
 * Moves an unfinished claim of another pump to the claim ID `claimId` of the caller, who must then publish it, if the other pump
 * has not renewed it for `silentMs`. `pending`: another pump may still be publishing a claim.
 */
export async function takeOverClaim(
  db: Database,
  queueId: string,
  claimId: string,
  silentMs: number,
): Promise<'taken' | 'pending' | 'none'> {
  const { rows } = await db.query<{ found: 'taken' | 'pending' | 'none' }>({
    name: 'take-over-claim',
    text: 'select take_over_claim($1, $2, $3) as found',
    values: [queueId, claimId, silentMs],
  });
  return rows[0]?.found ?? 'none';
}

/** Renews a claim that a pump is publishing. False when another pump has taken the claim over. */
export async function holdClaim(db: Database, queueId: string, claimId: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'hold-claim',
    text: `update endpoint_queues set pump_claims = pump_claims || unfinished_claim($2) from ${WITHOUT_FLUSH}
            where id = $1 and pump_claims -> pump_of($2) ->> 'claim' = $2`,
    values: [queueId, claimId],
  });
  return rowCount === 1;
}

/** Lets the next pump take over a claim that could not be published without waiting until it is silent. */
export async function releaseClaim(db: Database, queueId: string, claimId: string): Promise<void> {
  await db.query(
    `update endpoint_queues set pump_claims = jsonb_set(pump_claims, array[pump_of($2), 'at'], '"-infinity"')
      where id = $1 and pump_claims -> pump_of($2) ->> 'claim' = $2`,
    [queueId, claimId],
  );
}

/** Records that a pump has published its latest claim. */
export async function finishClaim(db: Database, queueId: string, pumpId: string): Promise<void> {
  await db.query({
    name: 'finish-claim',
    text: `update endpoint_queues set pump_claims = pump_claims - $2::text from ${WITHOUT_FLUSH}
            where id = $1 and pump_claims ? $2`,
    values: [queueId, pumpId],
  });
}

/**
 * Call between two claims. Renews the lease of the pump. False when nothing is left to dispatch or to take over; the pump is
 * then recorded as ended.
 */
export async function keepPumping(db: Database, queueId: string, pumpId: string): Promise<boolean> {
  const { rows } = await db.query<{ more: boolean }>({
    name: 'keep-pumping',
    text: 'select keep_pumping($1, $2) as more',
    values: [queueId, pumpId],
  });
  return rows[0]?.more ?? false;
}

/**
 * Call between two claims. Records the pump as ended and returns true if the window is full, nothing was dispatched for `quietMs`,
 * and there is nothing to take over.
 */
export async function parkPump(db: Database, queueId: string, pumpId: string, quietMs: number): Promise<boolean> {
  const { rows } = await db.query<{ parked: boolean }>({
    name: 'park-pump',
    text: 'select park_pump($1, $3, $2) as parked',
    values: [queueId, pumpId, quietMs],
  });
  return rows[0]?.parked ?? false;
}

/** Settles a claim. Call when the broker has all its tasks: repeating the claim then does not publish them again. */
export async function settleClaim(db: Database, claimId: string, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'settle-claim',
    text: `with settled as (
             select id from tasks where id = any ($2) and id >= $3 and id <= $4 and claim_id = $1 order by id for no key update
           )
           update tasks task set claim_id = null from settled where task.id = settled.id and task.id >= $3 and task.id <= $4`,
    values: [claimId, taskIds, taskIds[0], taskIds.at(-1)],
  });
}

/** True when the queue's endpoint was deleted. */
export async function isQueueGone(db: Database, queueId: string): Promise<boolean> {
  const { rows } = await db.query(
    'select 1 from endpoint_queues q join endpoints e on e.id = q.endpoint_id where q.id = $1 and e.deleted_at is null',
    [queueId],
  );
  return rows.length === 0;
}

export interface WaitingState {
  waiting: number;
  isOnline: boolean;
  changedAt: Date;
}

/** The number of waiting tasks of a submission, or of all submissions up to `lastId`, and whether their queue is online. */
export async function readWaiting(
  db: Database,
  submissionId: string,
  queueId: string,
  lastId = submissionId,
): Promise<WaitingState> {
  const { rows } = await db.query<WaitingState>({
    name: 'read-waiting',
    text: `select (select count(*)::integer from tasks where id > $1 and id <= last_task_of($3) and state = 'waiting') as waiting,
                  q.is_online as "isOnline", q.changed_at as "changedAt" from endpoint_queues q where q.id = $2`,
    values: [submissionId, queueId, lastId],
  });
  const row = rows[0];
  if (!row) throw new Error(`endpoint queue ${queueId} is not in the store; its endpoint may have been deleted`);
  return row;
}

/** Moves delayed tasks that are due, by the store's clock or the caller's, to `waiting`. Returns their number. */
export async function releaseDue(db: Database, submissionId: string, nowMs: number, lastId = submissionId): Promise<number> {
  const { rows } = await db.query<{ n: number }>('select release_due($1, last_task_of($3), $2) as n', [
    submissionId,
    new Date(nowMs),
    lastId,
  ]);
  return rows[0]?.n ?? 0;
}
