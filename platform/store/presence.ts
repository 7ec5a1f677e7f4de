import { MISSED_HEARTBEAT_PERIODS } from '../../contracts/frames';
import type { Database } from './database';
import type { OpenTask } from './open-tasks';

/** Presence of endpoints, and the attempts that nobody holds. */

export interface Heartbeat {
  endpointQueueId: string;
  incarnation: string | null;
  periodS: number;
  isActive: boolean;
  workers: number | null;
  report: unknown;
}

export interface PresenceChange {
  endpointQueueId: string;
  endpointId: string;
  endpointName: string;
  isOnline: boolean;
  changedAt: Date;
}

export interface RecordedHeartbeat extends PresenceChange {
  /** Whether the endpoint came or went by it. */
  changed: boolean;
  /** Whether another process of the same user endpoint was there before. */
  isReplaced: boolean;
}

/** Writes a heartbeat. Undefined for one of an endpoint that is gone, or of an incarnation that was replaced: it does not count. */
export async function recordHeartbeat(db: Database, beat: Heartbeat): Promise<RecordedHeartbeat | undefined> {
  const { rows } = await db.query<RecordedHeartbeat>({
    name: 'record-heartbeat',
    text: `with old as (select id, is_online, incarnation from endpoint_queues where id = $1 for no key update),
      updated as (
        update endpoint_queues q set
            is_online = $4, last_heartbeat_at = now(), heartbeat_period_s = case when $3 > 0 then $3 else q.heartbeat_period_s end,
            incarnation = coalesce($2, q.incarnation), workers = coalesce($5, q.workers),
            changed_at = case when q.is_online <> $4 then now() else q.changed_at end
           -- An agent of ours registers each incarnation; a user endpoint of a stock one is started without us.
           from old where q.id = old.id
             and exists (select 1 from endpoints e where e.id = q.endpoint_id and e.deleted_at is null)
             and (q.owner_id is not null or old.incarnation is null or $2::text is null or old.incarnation = $2)
         returning q.id, q.endpoint_id, q.is_online, q.changed_at, old.is_online <> q.is_online as changed,
                   q.owner_id is not null and old.incarnation <> $2::text as is_replaced
      ), reported as (
        update endpoints e set last_report = $6 from updated u where e.id = u.endpoint_id and u.id = e.id
      )
      select u.id as "endpointQueueId", u.endpoint_id as "endpointId", e.name as "endpointName", u.is_online as "isOnline",
             u.changed_at as "changedAt", u.changed, coalesce(u.is_replaced, false) as "isReplaced"
        from updated u join endpoints e on e.id = u.endpoint_id`,
    values: [beat.endpointQueueId, beat.incarnation, beat.periodS, beat.isActive, beat.workers, JSON.stringify(beat.report)],
  });
  return rows[0];
}

/** Marks queues offline whose heartbeats stopped; returns them. Safe when several processes do it at once. */
export async function sweepOffline(db: Database): Promise<PresenceChange[]> {
  const { rows } = await db.query<PresenceChange>({
    name: 'sweep-offline',
    // Rows that a store or a claim holds are left for the next sweep: this one must not wait for them in another order.
    text: `with silent as (
             select id from endpoint_queues
              where is_online and last_heartbeat_at < now() - heartbeat_period_s * $1::double precision * interval '1 second'
              order by id for no key update skip locked
           )
           update endpoint_queues q set is_online = false, changed_at = now() from endpoints e, silent s
            where q.id = s.id and e.id = q.endpoint_id
        returning q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName",
                  q.is_online as "isOnline", q.changed_at as "changedAt"`,
    values: [MISSED_HEARTBEAT_PERIODS],
  });
  return rows;
}

/** Shows tasks as running that the agent says a worker runs. */
export async function markRunning(db: Database, endpointQueueId: string, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-running',
    // In the order of ids, as every statement that locks tasks.
    text: `with started as (
             select id from tasks where endpoint_queue_id = $1 and state = 'dispatched' and id = any ($2)
              order by id for no key update
           )
           update tasks t set state = 'running', running_at = now() from started s where t.id = s.id and t.state = 'dispatched'`,
    values: [endpointQueueId, taskIds],
  });
}

/** In hand by the store, and not named by the heartbeat that was just heard, or not by an earlier one. */
export interface Suspect extends OpenTask {
  isHeld: boolean;
  /** How long heartbeats have not named it; null when this is the first one. */
  missingMs: number | null;
  /** Age of the dispatch. */
  ageMs: number;
}

/** Attempts in hand for at least `minAgeMs` that a heartbeat did not name, and those that were missed before. */
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
                  extract(epoch from now() - dispatched_at)::double precision * 1000 as "ageMs"
             from tasks
            where endpoint_queue_id = $1 and is_in_flight(state)
              and (missing_since is not null
                   or (dispatched_at < now() - $3::double precision * interval '1 millisecond' and not (id = any ($2))))
            order by id limit $4`,
    values: [endpointQueueId, held, minAgeMs, limit],
  });
  return rows;
}

/** Notes which attempts are missed from now on, and which were found again. */
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

/** The age of the oldest dispatch among these attempts; undefined when none of them is in hand. */
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

/** Gives lost attempts back to waiting, or names those that were lost too often. */
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

/** Online queues where tasks wait and no living pump looks after them; asked for as by `askForPump`. */
export async function listQueuesWithoutPump(
  db: Database,
): Promise<{ endpointQueueId: string; endpointId: string; endpointName: string }[]> {
  const { rows } = await db.query<{ endpointQueueId: string; endpointId: string; endpointName: string }>({
    name: 'list-returning',
    text: `select q.id as "endpointQueueId", q.endpoint_id as "endpointId", e.name as "endpointName"
             from endpoint_queues q join endpoints e on e.id = q.endpoint_id
            where q.is_online and (q.pump_alive_at is null or q.pump_alive_at < now() - interval '15 seconds')
              and ask_for_pump(q.id)`,
  });
  return rows;
}
