import type { Database } from './database';
import type { OpenTask } from './open-tasks';

/**
 * Stock endpoints of Globus Compute 4. A core endpoint has a queue row only for its presence. Each of its user endpoints has a
 * queue of its own, one per submitter and canonical `user_endpoint_config`.
 */

/** Stock agents have no prefetch and publish results every half second, so they need a larger window than our agent. */
const WINDOW_FLOOR = 1_000;
const WINDOW_SPAN_S = 1.5;

/** For this long, a process may use the ID of a user endpoint without storing its use. */
export const REMEMBERED_S = 86_400;

export interface CoreEndpointRow {
  id: string;
  ownerId: string;
  name: string;
  displayName: string | null;
  isPublic: boolean;
  isMultiUser: boolean;
  allowedFunctions: string[] | null;
  metadata: Record<string, unknown>;
}

/** Inserts or updates a core endpoint. False when the id belongs to another owner, was deleted, or is another endpoint's queue. */
export async function saveCoreEndpoint(db: Database, endpoint: CoreEndpointRow): Promise<boolean> {
  const { rowCount } = await db.query(
    `with saved as (
       insert into endpoints (id, owner_id, name, display_name, kind, is_public, is_multi_user, allowed_functions, metadata)
       select $1, $2, $3, $4, 'globus', $5, $6, $7, $8
        where not exists (select from endpoint_queues q where q.id = $1 and q.endpoint_id <> q.id)
       on conflict (id) do update set name = excluded.name, display_name = excluded.display_name,
           is_public = excluded.is_public, is_multi_user = excluded.is_multi_user,
           allowed_functions = excluded.allowed_functions, metadata = excluded.metadata, registered_at = now()
         where endpoints.owner_id = excluded.owner_id and endpoints.kind = 'globus' and endpoints.deleted_at is null
       returning id
     )
     insert into endpoint_queues (id, endpoint_id, window_floor, window_span_s, window_size) select id, id, 1, 1, 1 from saved
     on conflict (id) do update set start_refused_at = null where endpoint_queues.endpoint_id = excluded.endpoint_id`,
    [
      endpoint.id,
      endpoint.ownerId,
      endpoint.name,
      endpoint.displayName,
      endpoint.isPublic,
      endpoint.isMultiUser,
      endpoint.allowedFunctions,
      JSON.stringify(endpoint.metadata),
    ],
  );
  return rowCount === 1;
}

export interface UserEndpointKey {
  endpointId: string;
  ownerId: string;
  configHash: string;
}

/** True if the user endpoint exists, which means that it has had a submission. */
export async function hasUserEndpoint(db: Database, key: UserEndpointKey): Promise<boolean> {
  const { rows } = await db.query('select 1 from endpoint_queues where endpoint_id = $1 and owner_id = $2 and config_hash = $3', [
    key.endpointId,
    key.ownerId,
    key.configHash,
  ]);
  return rows.length > 0;
}

/** The queue of a user endpoint. The first submission to it creates the queue, with the id `newId`. */
export async function ensureUserEndpoint(
  db: Database,
  key: UserEndpointKey & { newId: string; config: Record<string, unknown>; runtime: Record<string, unknown> },
): Promise<string> {
  const { rows } = await db.query<{ id: string }>({
    name: 'ensure-user-endpoint',
    text: `insert into endpoint_queues (id, endpoint_id, owner_id, config_hash, config, runtime, window_floor, window_span_s, window_size)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $7)
           on conflict (endpoint_id, owner_id, config_hash) do update set runtime = excluded.runtime, collected_at = null
           returning id`,
    values: [
      key.newId,
      key.endpointId,
      key.ownerId,
      key.configHash,
      JSON.stringify(key.config),
      JSON.stringify(key.runtime),
      WINDOW_FLOOR,
      WINDOW_SPAN_S,
    ],
  });
  const row = rows[0];
  if (!row) throw new Error('the user endpoint was neither created nor found');
  return row.id;
}

export interface StartFacts {
  endpointQueueId: string;
  endpointId: string;
  ownerId: string;
  ownerName: string;
  config: Record<string, unknown>;
  runtime: Record<string, unknown>;
}

/**
 * Facts for a start command if the core endpoint is online and the pause since the last command has passed. Only one of several
 * concurrent callers gets them. The pause depends on whether the user endpoint is online.
 */
export async function takeStartTurn(
  db: Database,
  endpointQueueId: string,
  pauseS: { online: number; offline: number },
): Promise<StartFacts | undefined> {
  const { rows } = await db.query<StartFacts>({
    name: 'take-start-turn',
    text: `update endpoint_queues q set command_sent_at = now(), collected_at = null
             from endpoint_queues c, endpoints e, identities i
            where q.id = $1 and c.id = q.endpoint_id and c.is_online and e.id = q.endpoint_id and e.deleted_at is null
              and i.id = q.owner_id and i.revoked_at is null
              and (q.command_sent_at is null or q.command_sent_at <
                   now() - (case when q.is_online then $2::double precision else $3::double precision end) * interval '1 second')
        returning q.id as "endpointQueueId", q.endpoint_id as "endpointId", q.owner_id as "ownerId", i.name as "ownerName",
                  q.config, q.runtime`,
    values: [endpointQueueId, pauseS.online, pauseS.offline],
  });
  return rows[0];
}

/** Nothing is in flight at a user endpoint that was collected. */
const GONE = `q.owner_id is not null and not q.is_online and q.collected_at is null`;

/** Offline user endpoints with tasks that wait or are in flight, and whose core endpoint is online. */
export async function listWaitingUserEndpoints(db: Database): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'list-waiting-user-endpoints',
    // The cost grows with the queues where tasks wait and the user endpoints that have just gone, not with all user endpoints.
    text: `with busy as (
             select waiting.id from queues_with_waiting_tasks() waiting
             union select q.id from endpoint_queues q where ${GONE} and q.in_flight > 0
           )
           select q.id
             from busy
             -- The offset makes the planner look up each of them. It expects far more, and would read all user endpoints.
             cross join lateral (select * from endpoint_queues one where one.id = busy.id offset 0) q
             join endpoint_queues c on c.id = q.endpoint_id join endpoints e on e.id = q.endpoint_id
            where e.kind = 'globus' and e.deleted_at is null and q.owner_id is not null and not q.is_online and c.is_online`,
  });
  return rows.map((row) => row.id);
}

/** User endpoints that have been offline for `goneS` seconds and have attempts in flight. */
export async function listGoneWithTasks(db: Database, goneS: number): Promise<{ id: string; goneS: number }[]> {
  const { rows } = await db.query<{ id: string; goneS: number }>({
    name: 'list-gone-with-tasks',
    text: `select q.id, extract(epoch from now() - q.changed_at)::double precision as "goneS" from endpoint_queues q join endpoints e on e.id = q.endpoint_id
            where e.kind = 'globus' and ${GONE} and q.in_flight > 0
              and q.changed_at < now() - $1::double precision * interval '1 second'`,
    values: [goneS],
  });
  return rows;
}

export async function listInHand(db: Database, endpointQueueId: string, limit: number): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>({
    name: 'list-in-hand',
    text: `select id, attempt from tasks where endpoint_queue_id = $1 and is_in_flight(state) order by id limit $2`,
    values: [endpointQueueId, limit],
  });
  return rows;
}

/** Tasks of a queue that wait or are in flight. Omits delayed tasks, which wait again when they are due. */
export async function listOpenOfQueue(db: Database, endpointQueueId: string, limit: number): Promise<OpenTask[]> {
  const { rows } = await db.query<OpenTask>({
    name: 'list-open-of-queue',
    text: `(select id, attempt from tasks where endpoint_queue_id = $1 and state = 'waiting' order by id limit $2)
           union all
           (select id, attempt from tasks where endpoint_queue_id = $1 and is_in_flight(state) order by id limit $2)`,
    values: [endpointQueueId, limit],
  });
  return rows;
}

/**
 * Records that a start was refused, and sets the time of the last command to `againS` seconds from now. A negative `againS`
 * allows the next command before the full pause has passed. Returns how long starts have been refused.
 */
export async function noteStartRefused(
  db: Database,
  endpointQueueId: string,
  againS: number,
): Promise<{ forS: number; isOnline: boolean } | undefined> {
  const { rows } = await db.query<{ forS: number; isOnline: boolean }>(
    `update endpoint_queues set start_refused_at = coalesce(start_refused_at, now()),
            command_sent_at = now() + $2::double precision * interval '1 second'
      where id = $1 and owner_id is not null
      returning extract(epoch from now() - start_refused_at)::double precision as "forS", is_online as "isOnline"`,
    [endpointQueueId, againS],
  );
  return rows[0];
}

export async function clearStartRefused(db: Database, endpointQueueId: string): Promise<void> {
  await db.query('update endpoint_queues set start_refused_at = null where id = $1 and start_refused_at is not null', [
    endpointQueueId,
  ]);
}

const UNUSED = `${GONE} and q.in_flight = 0
  and greatest(q.changed_at, q.command_sent_at) < now() - $1::double precision * interval '1 second'
  and not exists (select from tasks t where t.endpoint_queue_id = q.id and t.state = 'waiting')`;

/** User endpoints that were unused for `unusedS` seconds and whose queues and broker users may still exist. */
export async function listUnusedUserEndpoints(db: Database, unusedS: number, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select q.id from endpoint_queues q join endpoints e on e.id = q.endpoint_id
      where e.kind = 'globus' and ${UNUSED} order by q.changed_at limit $2`,
    [unusedS, limit],
  );
  return rows.map((row) => row.id);
}

/** Also expires its broker users. False when it was woken meanwhile: the next start command declares the queue again. */
export async function markCollected(db: Database, endpointQueueId: string, unusedS: number): Promise<boolean> {
  const { rows } = await db.query<{ collected: boolean }>(
    `with collected as (
       update endpoint_queues q set collected_at = now() where q.id = $2 and ${UNUSED} returning q.id
     ), expired as (
       update broker_users u set expires_at = now() from collected c where u.endpoint_queue_id = c.id and u.expires_at is null
     )
     select exists (select from collected) as collected`,
    [unusedS, endpointQueueId],
  );
  return rows[0]?.collected ?? false;
}

/**
 * Removes user endpoints that were collected at least `collectedS` seconds ago and that no submission names. The same
 * configuration then makes another one. Returns their number.
 */
export async function removeUserEndpoints(db: Database, collectedS: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `with old as (
       select q.id from endpoint_queues q
        where q.owner_id is not null and q.collected_at < now() - $1::double precision * interval '1 second'
          and not exists (select from submissions s where s.endpoint_queue_id = q.id)
        limit $2 for update skip locked
     )
     delete from endpoint_queues q using old where q.id = old.id`,
    [collectedS, limit],
  );
  return rowCount ?? 0;
}

export async function listEndpointQueues(db: Database, endpointId: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>('select id from endpoint_queues where endpoint_id = $1', [endpointId]);
  return rows.map((row) => row.id);
}
