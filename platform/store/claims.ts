import type { Database } from './database';

/** Claims: the transactions that take waiting tasks for dispatch. */

/** A claimed task with everything that its message needs. */
export interface ClaimedTask {
  id: string;
  attempt: number;
  functionId: string;
  /** Packed code of the function; tasks of one function share the buffer. */
  code: Buffer;
  /** Null when the body exceeds the inline limit; the agent then fetches it over HTTP. */
  payload: Buffer | null;
  resourceSpecification: Record<string, unknown> | null;
  resultSerializers: string[] | null;
  walltimeMs: number | null;
  traceparent: string | null;
  /** The first task that the arguments refer to and whose result no longer exists. */
  missingSource: string | null;
  /** Measured results per second of the queue, if its agent reads batches; else null. */
  batchRate: number | null;
}

const LOADED = `
  select c.id, c.attempt, t.function_id as "functionId",
         case when e.kind = 'agent' and t.payload_size > $3 then null
              when exists (select from payload_references pr where pr.id = c.id) then task_payload(c.id)
              else (select p.body from payloads p where p.id = c.id and p.id >= $4 and p.id <= $5) end as payload,
         s.resource_specification as "resourceSpecification", s.result_serializers as "resultSerializers",
         (s.policy ->> 'walltime_s')::double precision * 1000 as "walltimeMs", s.traceparent,
         (select pr.source from payload_references pr
           where pr.id = c.id and not exists (select from results r where r.id = pr.source)
           order by pr.position limit 1) as "missingSource",
         case when 'batches' = any (q.capabilities) and q.capable_incarnation = q.incarnation then q.rate end as "batchRate"
    from claimed c
    join tasks t on t.id = c.id and t.id >= $4 and t.id <= $5
    join submissions s on s.id = submission_of(c.id)
    join endpoints e on e.id = s.endpoint_id
    join endpoint_queues q on q.id = t.endpoint_queue_id
   order by c.id`;

/**
 * Claims waiting tasks within the queue's window and returns them with their bodies. Repeating a claim id returns the
 * unanswered tasks of that claim, so that an interrupted dispatch can be completed.
 */
export async function claimTasks(
  db: Database,
  queueId: string,
  claimId: string,
  bounds: { tasks: number; bytes: number; inlineBytes: number },
): Promise<ClaimedTask[]> {
  // A second statement, because a statement does not see the changes of a function that it calls.
  const { rows: claimed } = await db.query<{ id: string; attempt: number }>({
    name: 'claim-tasks',
    text: 'select id, attempt from claim_tasks($1, $2, $3, $4)',
    values: [queueId, claimId, bounds.tasks, bounds.bytes],
  });
  if (claimed.length === 0) return [];
  const { rows } = await db.query<Omit<ClaimedTask, 'code'>>({
    name: 'load-claimed',
    text: `with claimed as (select * from unnest($1::uuid[], $2::integer[]) as c (id, attempt)) ${LOADED}`,
    values: [claimed.map((task) => task.id), claimed.map((task) => task.attempt), bounds.inlineBytes, ...rangeOf(claimed)],
  });
  const codes = await readCodes(db, [...new Set(rows.map((task) => task.functionId))]);
  return rows.map((task) => ({ ...task, code: codes.get(task.functionId) ?? Buffer.alloc(0) }));
}

/** Once for each function: a copy for each task would hold many times the code in memory. */
async function readCodes(db: Database, functionIds: readonly string[]): Promise<Map<string, Buffer>> {
  const { rows } = await db.query<{ id: string; code: Buffer }>({
    name: 'load-codes',
    text: 'select id, code from functions where id = any ($1)',
    values: [functionIds],
  });
  return new Map(rows.map(({ id, code }) => [id, code]));
}

/**
 * True when tasks wait at an online queue without a live pump. The caller must then signal the endpoint's workflow. True
 * at most once in 15 s, so that many submissions cause one signal.
 */
export async function askForPump(db: Database, queueId: string): Promise<boolean> {
  const { rows } = await db.query<{ asked: boolean }>({
    name: 'ask-for-pump',
    text: 'select ask_for_pump($1) as asked',
    values: [queueId],
  });
  return rows[0]?.asked ?? false;
}

/** Call after a failed signal, so that the next caller may signal without waiting. */
export async function forgetPump(db: Database, queueId: string): Promise<void> {
  await db.query('update endpoint_queues set pump_alive_at = null where id = $1', [queueId]);
}

/** Those of the given queues that are online and have room in their windows. */
export async function listRoomy(db: Database, queueIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'list-roomy',
    text: 'select id from endpoint_queues where id = any ($1) and is_online and in_flight < window_size',
    values: [queueIds],
  });
  return rows.map(({ id }) => id);
}

/** The claim whose publishing a pump did not complete; its tasks must be published again. */
export async function findUnfinishedClaim(db: Database, queueId: string): Promise<string | undefined> {
  const { rows } = await db.query<{ claim: string | null }>('select pump_claim as claim from endpoint_queues where id = $1', [
    queueId,
  ]);
  return rows[0]?.claim ?? undefined;
}

/** Renews the pump's sign of life. False when nothing is left to dispatch; the pump is then recorded as ended. */
export async function keepPumping(db: Database, queueId: string): Promise<boolean> {
  const { rows } = await db.query<{ more: boolean }>({
    name: 'keep-pumping',
    text: 'select keep_pumping($1) as more',
    values: [queueId],
  });
  return rows[0]?.more ?? false;
}

/** The broker has every task of the claim: repeating the claim must not publish them again. */
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

/** Lowest and highest id: what leads a statement to its partitions. The rows come ordered. */
function rangeOf(claimed: readonly { id: string }[]): [string | undefined, string | undefined] {
  return [claimed[0]?.id, claimed.at(-1)?.id];
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

/** The number of waiting tasks of a submission, and whether their queue is online. */
export async function readWaiting(db: Database, submissionId: string, queueId: string): Promise<WaitingState> {
  const { rows } = await db.query<WaitingState>({
    name: 'read-waiting',
    text: `select (select count(*)::integer from tasks where id > $1 and id <= last_task_of($1) and state = 'waiting') as waiting,
                  q.is_online as "isOnline", q.changed_at as "changedAt" from endpoint_queues q where q.id = $2`,
    values: [submissionId, queueId],
  });
  const row = rows[0];
  if (!row) throw new Error(`endpoint queue ${queueId} is not in the store`);
  return row;
}

/** Moves delayed tasks of a submission that are due to `waiting`. Returns their number. */
export async function releaseDue(db: Database, submissionId: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>('select release_due($1, last_task_of($1)) as n', [submissionId]);
  return rows[0]?.n ?? 0;
}
