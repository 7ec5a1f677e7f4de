import { MISSED_HEARTBEAT_PERIODS } from '../../contracts/frames';
import type { Database } from './database';
import type { OpenTask } from './open-tasks';
import { WITHOUT_FLUSH } from './without-flush';

/** Presence of endpoints, and lost attempts. */

export interface Heartbeat {
  endpointQueueId: string;
  incarnation: string | null;
  periodS: number;
  isActive: boolean;
  workers: number | null;
  report: unknown;
  /** How late the heartbeat arrived, in milliseconds: it counts from when it was sent. Default 0. */
  lateMs?: number;
}

export interface PresenceChange {
  endpointQueueId: string;
  endpointId: string;
  endpointName: string;
  isOnline: boolean;
  changedAt: Date;
}

export interface RecordedHeartbeat extends PresenceChange {
  changed: boolean;
  /** A user endpoint reports another incarnation than before. */
  isReplaced: boolean;
  /** Whether attempts are in flight at the endpoint. */
  hasAttempts: boolean;
}

/** Takes one heartbeat per queue. The result omits ignored heartbeats and queues that another transaction has locked. */
export async function recordHeartbeats(db: Database, beats: readonly Heartbeat[]): Promise<Map<string, RecordedHeartbeat>> {
  const recorded = await db.query<RecordedHeartbeat>({
    name: 'record-heartbeats',
    text: recordStatement('skip locked'),
    values: valuesOf(beats),
  });
  return new Map(recorded.rows.map((row) => [row.endpointQueueId, row]));
}

/** Records a heartbeat. Undefined if it is ignored, because the endpoint was deleted or the incarnation was replaced. */
export async function recordHeartbeat(db: Database, beat: Heartbeat): Promise<RecordedHeartbeat | undefined> {
  const { rows } = await db.query<RecordedHeartbeat>({
    name: 'record-heartbeat',
    text: recordStatement(''),
    values: valuesOf([beat]),
  });
  return rows[0];
}

function valuesOf(beats: readonly Heartbeat[]): unknown[][] {
  return [
    beats.map((beat) => beat.endpointQueueId),
    beats.map((beat) => beat.incarnation),
    beats.map((beat) => beat.periodS),
    beats.map((beat) => beat.isActive),
    beats.map((beat) => beat.workers),
    beats.map((beat) => JSON.stringify(beat.report)),
    beats.map((beat) => beat.lateMs ?? 0),
  ];
}

/**
 * Locks endpoints before their queues, as registration and deletion do. Locks an endpoint only if its report has changed, because
 * a lock costs as much as an update. A user endpoint has no endpoint row to lock. Our agent registers each incarnation; a user
 * endpoint of a stock agent does not, so its heartbeats may change the incarnation.
 */
const recordStatement = (whenLocked: '' | 'skip locked'): string => `
  with given as (
    select * from unnest($1::uuid[], $2::text[], $3::double precision[], $4::boolean[], $5::integer[], $6::jsonb[], $7::double precision[])
      as given (id, incarnation, period_s, is_active, workers, report, late_ms)
  ), endpoint as (
    select e.id from endpoints e join given on given.id = e.id where e.last_report is distinct from given.report
     order by e.id for no key update of e ${whenLocked}
  ), old as (
    select q.id, q.is_online, q.incarnation from endpoint_queues q
     where q.id = any ($1) and (select count(*) from endpoint) >= 0 order by q.id for no key update of q ${whenLocked}
  ), updated as (
    update endpoint_queues q set
        is_online = given.is_active,
        last_heartbeat_at = greatest(q.last_heartbeat_at, now() - given.late_ms * interval '1 millisecond'),
        heartbeat_period_s = case when given.period_s > 0 then given.period_s else q.heartbeat_period_s end,
        incarnation = coalesce(given.incarnation, q.incarnation),
        incarnation_since = case when old.incarnation is distinct from coalesce(given.incarnation, q.incarnation) then now()
                                 else q.incarnation_since end,
        workers = coalesce(given.workers, q.workers),
        collected_at = case when not given.is_active then q.collected_at end,
        changed_at = case when q.is_online <> given.is_active then now() else q.changed_at end
      from old, given, ${WITHOUT_FLUSH}
     where q.id = old.id and given.id = old.id
       and exists (select 1 from endpoints e where e.id = q.endpoint_id and e.deleted_at is null)
       and (q.owner_id is not null or old.incarnation is null or given.incarnation is null or old.incarnation = given.incarnation)
    returning q.id, q.endpoint_id, q.is_online, q.changed_at, q.in_flight > 0 as has_attempts, old.is_online <> q.is_online as changed,
              q.owner_id is not null and old.incarnation <> given.incarnation as is_replaced
  ), reported as (
    update endpoints e set last_report = given.report from updated u, endpoint locked, given
     where e.id = u.endpoint_id and e.id = locked.id and given.id = locked.id
  )
  select u.id as "endpointQueueId", u.endpoint_id as "endpointId", e.name as "endpointName", u.is_online as "isOnline",
         u.changed_at as "changedAt", u.changed, coalesce(u.is_replaced, false) as "isReplaced", u.has_attempts as "hasAttempts"
    from updated u join endpoints e on e.id = u.endpoint_id`;

export async function hasWaitingTasks(db: Database, endpointQueueId: string): Promise<boolean> {
  const { rows } = await db.query<{ has: boolean }>({
    name: 'has-waiting-tasks',
    text: `select exists (select from tasks where endpoint_queue_id = $1 and state = 'waiting') as has`,
    values: [endpointQueueId],
  });
  return rows[0]!.has;
}

export interface Hearing {
  /** How long this process has received heartbeats without a break. A queue is marked only if its timeout is shorter. */
  heardForMs: number;
  /** How long another process that stands still may keep heartbeats to itself. */
  hiddenForMs: number;
}

/**
 * Marks queues offline whose heartbeats stopped, and returns them. All attempts of a user endpoint that goes offline are sent
 * again, so its timeout also covers heartbeats that another process received and cannot record. Safe to run in several processes
 * at the same time.
 */
export async function sweepOffline(db: Database, { heardForMs, hiddenForMs }: Hearing): Promise<PresenceChange[]> {
  const { rows } = await db.query<PresenceChange>({
    name: 'sweep-offline',
    // Skips locked rows: the next sweep takes them, and waiting here could deadlock with a store or a claim.
    text: `with silent as (
             select q.id from endpoint_queues q
               cross join lateral (
                 select greatest(heartbeat_period_s * $1::double precision,
                                 case when owner_id is not null then heartbeat_period_s + $3::double precision / 1000 end) as timeout_s
               ) t
              where q.is_online and q.last_heartbeat_at < now() - t.timeout_s * interval '1 second'
                and t.timeout_s * 1000 < $2::double precision
              order by q.id for no key update of q skip locked
           )
           update endpoint_queues q set is_online = false, changed_at = now() from endpoints e, silent s
            where q.id = s.id and e.id = q.endpoint_id
        returning q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName",
                  q.is_online as "isOnline", q.changed_at as "changedAt"`,
    values: [MISSED_HEARTBEAT_PERIODS, heardForMs, hiddenForMs],
  });
  return rows;
}

export async function markRunning(db: Database, endpointQueueId: string, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-running',
    // Locks tasks in the order of their IDs, as every statement does that locks tasks.
    text: `with started as (
             select id from tasks where endpoint_queue_id = $1 and state = 'dispatched' and id = any ($2)
              order by id for no key update
           )
           update tasks t set state = 'running', running_at = now() from started s where t.id = s.id and t.state = 'dispatched'`,
    values: [endpointQueueId, taskIds],
  });
}

/** An attempt in flight that the latest heartbeat or an earlier one did not name. */
export interface Suspect extends OpenTask {
  isHeld: boolean;
  /** Time since the first heartbeat that did not name the attempt; null if the latest heartbeat is the first. */
  missingMs: number | null;
  /** Time since the dispatch. */
  ageMs: number;
  /** The agent is still the same incarnation as when the attempt was dispatched. */
  hasSameAgent: boolean;
}

/** Attempts in flight for at least `minAgeMs` that the heartbeat did not name, and attempts that were missing before. */
export async function listSuspects(
  db: Database,
  endpointQueueId: string,
  held: readonly string[],
  minAgeMs: number,
  limit: number,
): Promise<Suspect[]> {
  const { rows } = await db.query<Suspect>({
    name: 'list-suspects',
    text: `select id, attempt, id = any ($2) as "isHeld",
                  extract(epoch from now() - missing_since)::double precision * 1000 as "missingMs",
                  extract(epoch from now() - dispatched_at)::double precision * 1000 as "ageMs",
                  dispatched_at > (select q.incarnation_since from endpoint_queues q where q.id = $1) as "hasSameAgent"
             from tasks
            where endpoint_queue_id = $1 and is_in_flight(state)
              and (missing_since is not null
                   or (dispatched_at < now() - $3::double precision * interval '1 millisecond' and not (id = any ($2))))
            order by id limit $4`,
    values: [endpointQueueId, held, minAgeMs, limit],
  });
  return rows;
}

export async function noteMissing(db: Database, missing: readonly string[], found: readonly string[]): Promise<void> {
  if (missing.length + found.length === 0) return;
  await db.query({
    name: 'note-missing',
    text: `with noted as (
             select id from tasks where id = any ($1::uuid[] || $2::uuid[]) and is_in_flight(state) order by id for no key update
           )
           update tasks t set missing_since = case when t.id = any ($1::uuid[]) then now() end from noted n where t.id = n.id`,
    values: [missing, found],
  });
}

export async function oldestDispatchMs(
  db: Database,
  endpointQueueId: string,
  ids: readonly string[],
): Promise<number | undefined> {
  const { rows } = await db.query<{ ms: number | null }>({
    name: 'oldest-dispatch',
    text: `select extract(epoch from now() - min(dispatched_at))::double precision * 1000 as ms from tasks
            where endpoint_queue_id = $1 and is_in_flight(state) and id = any ($2)`,
    values: [endpointQueueId, ids],
  });
  return rows[0]?.ms ?? undefined;
}

/** Requeues lost attempts and returns them. Attempts that were lost too often are not requeued and are marked as final. */
export async function requeueLost(
  db: Database,
  attempts: readonly OpenTask[],
  maxLosses: number,
): Promise<(OpenTask & { isFinal: boolean })[]> {
  const { rows } = await db.query<OpenTask & { isFinal: boolean }>({
    name: 'requeue-lost',
    text: 'select id, attempt, is_final as "isFinal" from requeue_lost($1, $2, $3)',
    values: [attempts.map((one) => one.id), attempts.map((one) => one.attempt), maxLosses],
  });
  return rows;
}

/** Online queues with room where tasks wait without a live pump. As with `askForPump`, each is returned at most once in 15 s. */
export async function listQueuesWithoutPump(
  db: Database,
): Promise<{ endpointQueueId: string; endpointId: string; endpointName: string; changedAt: Date | null }[]> {
  const { rows } = await db.query<{ endpointQueueId: string; endpointId: string; endpointName: string; changedAt: Date | null }>({
    name: 'list-returning',
    text: `select q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName", q.changed_at as "changedAt"
             from queues_with_waiting_tasks() waiting join endpoint_queues q on q.id = waiting.id
             join endpoints e on e.id = q.endpoint_id
            where q.is_online and q.in_flight < q.window_size and (q.pump_alive_at is null or q.pump_alive_at < now() - interval '15 seconds')
              and ask_for_pump(q.id)`,
  });
  return rows;
}

export interface QueueToPump {
  endpointQueueId: string;
  endpointId: string;
  endpointName: string;
}

/** Online queues where tasks wait that are in the list, or whose pump was requested, or was alive, at this time or later. */
export async function listQueuesToPump(db: Database, since: Date, queueIds: readonly string[]): Promise<QueueToPump[]> {
  const { rows } = await db.query<QueueToPump>(
    `select q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName"
       from queues_with_waiting_tasks() waiting join endpoint_queues q on q.id = waiting.id join endpoints e on e.id = q.endpoint_id
      where q.is_online and (q.pump_alive_at >= $1 or q.id = any ($2))`,
    [since, queueIds],
  );
  return rows;
}

export async function markSignalled(db: Database, endpointQueueId: string, changedAt: Date): Promise<void> {
  await db.query({
    name: 'mark-signalled',
    // The caller's time has a precision of milliseconds, the store's of microseconds.
    text: `update endpoint_queues set signalled_at = changed_at
            where id = $1 and abs(extract(epoch from changed_at - $2::timestamptz)) < 0.002`,
    values: [endpointQueueId, changedAt],
  });
}

/** Queues whose last change is older than `olderThanMs` and was not signalled to the endpoint's workflow. */
export async function listUnsignalled(db: Database, olderThanMs: number, limit: number): Promise<PresenceChange[]> {
  const { rows } = await db.query<PresenceChange>({
    name: 'list-unsignalled',
    text: `select q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName",
                  q.is_online as "isOnline", q.changed_at as "changedAt"
             from endpoint_queues q join endpoints e on e.id = q.endpoint_id
            where q.changed_at is distinct from q.signalled_at and e.deleted_at is null
              and q.changed_at < now() - $1::double precision * interval '1 millisecond'
            order by q.changed_at limit $2`,
    values: [olderThanMs, limit],
  });
  return rows;
}
