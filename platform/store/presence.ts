import type { Database } from './database';

/** Presence of endpoints, and the attempts that nobody holds. */

export interface Heartbeat {
  taskQueueId: string;
  incarnation: string | null;
  periodS: number;
  isActive: boolean;
  workers: number | null;
  report: unknown;
}

export interface PresenceChange {
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
  isOnline: boolean;
  changedAt: Date;
}

/** Periods without a heartbeat after which an endpoint counts as offline. */
const MISSED_PERIODS = 2.5;

export interface RecordedHeartbeat extends PresenceChange {
  /** Whether the endpoint came or went by it. */
  changed: boolean;
  /** Whether another process of the same user endpoint was there before. */
  isReplaced: boolean;
}

/** Writes a heartbeat. Undefined for one of a queue that does not exist, or of an incarnation that was replaced. */
export async function recordHeartbeat(db: Database, beat: Heartbeat): Promise<RecordedHeartbeat | undefined> {
  const { rows } = await db.query<RecordedHeartbeat>({
    name: 'record-heartbeat',
    text: `with old as (select id, is_online, incarnation from task_queues where id = $1 for update),
      updated as (
        update task_queues q set
            is_online = $4, last_heartbeat_at = now(), heartbeat_period_s = case when $3 > 0 then $3 else q.heartbeat_period_s end,
            incarnation = coalesce($2, q.incarnation), workers = coalesce($5, q.workers),
            changed_at = case when q.is_online <> $4 then now() else q.changed_at end
          -- An agent of ours registers each incarnation; a user endpoint of a stock one is started without us.
          from old where q.id = old.id
            and (q.owner_id is not null or old.incarnation is null or $2::text is null or old.incarnation = $2)
        returning q.id, q.endpoint_id, q.is_online, q.changed_at, old.is_online <> q.is_online as changed,
                  q.owner_id is not null and old.incarnation <> $2::text as is_replaced
      ), reported as (
        update endpoints e set last_report = $6 from updated u where e.id = u.endpoint_id and u.id = e.id
      )
      select u.id as "taskQueueId", u.endpoint_id as "endpointId", e.name as "endpointName", u.is_online as "isOnline",
             u.changed_at as "changedAt", u.changed, coalesce(u.is_replaced, false) as "isReplaced"
        from updated u join endpoints e on e.id = u.endpoint_id`,
    values: [beat.taskQueueId, beat.incarnation, beat.periodS, beat.isActive, beat.workers, JSON.stringify(beat.report)],
  });
  return rows[0];
}

/** Marks queues offline whose heartbeats stopped; returns them. Safe when several processes do it at once. */
export async function sweepOffline(db: Database): Promise<PresenceChange[]> {
  const { rows } = await db.query<PresenceChange>({
    name: 'sweep-offline',
    text: `update task_queues q set is_online = false, changed_at = now() from endpoints e
            where e.id = q.endpoint_id and q.is_online
              and q.last_heartbeat_at < now() - q.heartbeat_period_s * $1::double precision * interval '1 second'
        returning q.id as "taskQueueId", q.endpoint_id as "endpointId", e.name as "endpointName",
                  q.is_online as "isOnline", q.changed_at as "changedAt"`,
    values: [MISSED_PERIODS],
  });
  return rows;
}

/** Shows tasks as running that the agent says a worker runs. */
export async function markRunning(db: Database, taskQueueId: string, taskIds: readonly string[]): Promise<void> {
  await db.query({
    name: 'mark-running',
    text: `update tasks set state = 'running' where id = any ($2) and task_queue_id = $1 and state = 'dispatched'`,
    values: [taskQueueId, taskIds],
  });
}

export interface Lost {
  id: string;
  attempt: number;
}

/**
 * Attempts in hand for at least `minAgeMs` that a heartbeat did not name. The caller has made sure that they rest in no
 * queue: neither in the endpoint's nor, as results, in ours.
 */
export async function listUnheld(
  db: Database,
  taskQueueId: string,
  held: readonly string[],
  minAgeMs: number,
  limit: number,
): Promise<Lost[]> {
  const { rows } = await db.query<Lost>({
    name: 'list-unheld',
    text: `select id, attempt from tasks
            where task_queue_id = $1 and state in ('dispatched', 'running') and dispatched_at < now() - $3::double precision * interval '1 millisecond' and not (id = any ($2))
            order by id limit $4`,
    values: [taskQueueId, held, minAgeMs, limit],
  });
  return rows;
}

/** Gives lost attempts back to waiting, or names those that were lost too often. */
export async function requeueLost(
  db: Database,
  taskIds: readonly string[],
  maxLosses: number,
): Promise<{ id: string; attempt: number; isFinal: boolean }[]> {
  const { rows } = await db.query<{ id: string; attempt: number; isFinal: boolean }>({
    name: 'requeue-lost',
    text: 'select id, attempt, is_final as "isFinal" from requeue_lost($1, $2)',
    values: [taskIds, maxLosses],
  });
  return rows;
}

/** Online queues where tasks wait and no living pump looks after them. */
export async function listReturning(db: Database): Promise<{ taskQueueId: string; endpointId: string; endpointName: string }[]> {
  const { rows } = await db.query<{ taskQueueId: string; endpointId: string; endpointName: string }>({
    name: 'list-returning',
    text: `select q.id as "taskQueueId", q.endpoint_id as "endpointId", e.name as "endpointName"
             from task_queues q join endpoints e on e.id = q.endpoint_id where q.is_online and needs_pump(q.id)`,
  });
  return rows;
}
