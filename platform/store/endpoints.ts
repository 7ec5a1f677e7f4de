import type { Policy } from '../../contracts/policy';
import type { Database } from './database';

/** Endpoints and their queues, as the API reads and writes them. */

/** `agent`: our agent. `globus`: a core endpoint of Globus Compute 4. `funcx-1.0`: an agent of funcX 1.0. */
export type EndpointKind = 'agent' | 'globus' | 'funcx-1.0';

export interface EndpointRow {
  id: string;
  ownerId: string;
  name: string;
  displayName: string | null;
  kind: EndpointKind;
  isPublic: boolean;
  groupId: string | null;
  isMultiUser: boolean;
  allowedFunctions: string[] | null;
  metadata: Record<string, unknown>;
  lastReport: Record<string, unknown>;
  lockedUntil: Date | null;
  createdAt: Date;
  deletedAt: Date | null;
  isOnline: boolean;
  /** From the endpoint's own queue; null when it has none. */
  incarnation: string | null;
  lastHeartbeatAt: Date | null;
  registeredAt: Date;
  heartbeatPeriodS: number | null;
}

const SELECT_ENDPOINT = `
  select e.id, e.owner_id as "ownerId", e.name, e.display_name as "displayName", e.kind, e.is_public as "isPublic",
         e.group_id as "groupId", e.is_multi_user as "isMultiUser", e.allowed_functions as "allowedFunctions", e.metadata,
         e.last_report as "lastReport", e.locked_until as "lockedUntil", e.created_at as "createdAt", e.deleted_at as "deletedAt",
         e.registered_at as "registeredAt", coalesce(q.is_online, false) as "isOnline", q.incarnation,
         q.last_heartbeat_at as "lastHeartbeatAt", q.heartbeat_period_s as "heartbeatPeriodS"
    from endpoints e left join endpoint_queues q on q.id = e.id`;

export async function findEndpoint(db: Database, id: string): Promise<EndpointRow | undefined> {
  const { rows } = await db.query<EndpointRow>(`${SELECT_ENDPOINT} where e.id = $1 and e.deleted_at is null`, [id]);
  return rows[0];
}

/** Also finds deleted endpoints: their IDs cannot be reused, and a deletion that failed midway can be repeated. */
export async function findEndpointEvenDeleted(db: Database, id: string): Promise<EndpointRow | undefined> {
  const { rows } = await db.query<EndpointRow>(`${SELECT_ENDPOINT} where e.id = $1`, [id]);
  return rows[0];
}

export async function isDeletedEndpoint(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query('select from endpoints where id = $1 and deleted_at is not null', [id]);
  return rowCount === 1;
}

export async function listOwnEndpoints(db: Database, ownerId: string): Promise<EndpointRow[]> {
  const { rows } = await db.query<EndpointRow>(
    `${SELECT_ENDPOINT} where e.owner_id = $1 and e.deleted_at is null order by e.created_at, e.id`,
    [ownerId],
  );
  return rows;
}

export async function listVisibleEndpoints(db: Database, identityId: string, groups: readonly string[]): Promise<EndpointRow[]> {
  const { rows } = await db.query<EndpointRow>(
    `${SELECT_ENDPOINT} where (e.owner_id = $1 or e.is_public or e.group_id = any ($2)) and e.deleted_at is null
      order by e.created_at, e.id limit 10000`,
    [identityId, groups],
  );
  return rows;
}

export interface AgentRegistrationRow {
  id: string;
  ownerId: string;
  name: string;
  displayName: string | null;
  kind: EndpointKind;
  isPublic: boolean;
  groupId: string | null;
  allowedFunctions: string[] | null;
  metadata: Record<string, unknown>;
  incarnation: string | null;
  workers: number;
  /** Valid for this incarnation only. */
  capabilities?: readonly string[];
  heartbeatPeriodS: number;
  windowFloor: number;
  windowSpanS: number;
}

/**
 * Inserts or updates an agent's endpoint and its queue. False when the id belongs to another owner, was deleted, or is the id of
 * another endpoint's queue: whoever registers with that id would get the tasks of a user endpoint.
 */
export async function saveAgent(db: Database, agent: AgentRegistrationRow): Promise<boolean> {
  const { rowCount } = await db.query(
    `with saved as (
       insert into endpoints (id, owner_id, name, display_name, kind, is_public, group_id, allowed_functions, metadata)
       select $1, $2, $3, $4, $14, $5, $6, $7, $8
        where not exists (select from endpoint_queues q where q.id = $1 and q.endpoint_id <> q.id)
       on conflict (id) do update set name = excluded.name, display_name = excluded.display_name, is_public = excluded.is_public,
           group_id = excluded.group_id, allowed_functions = excluded.allowed_functions, metadata = excluded.metadata,
           registered_at = now()
         where endpoints.owner_id = excluded.owner_id and endpoints.deleted_at is null
       returning id
     )
     insert into endpoint_queues (id, endpoint_id, incarnation, workers, heartbeat_period_s, window_floor, window_span_s, window_size,
                                  capabilities, capable_incarnation)
     select id, id, $9, $10, $11, $12, $13, $12, $15, $9 from saved
     on conflict (id) do update set incarnation = excluded.incarnation, workers = excluded.workers,
         -- An agent without an incarnation registers at each start.
         incarnation_since = case when endpoint_queues.incarnation = excluded.incarnation
                                  then endpoint_queues.incarnation_since else now() end,
         heartbeat_period_s = excluded.heartbeat_period_s, window_floor = excluded.window_floor,
         window_span_s = excluded.window_span_s, window_size = greatest(endpoint_queues.window_size, excluded.window_floor),
         capabilities = excluded.capabilities, capable_incarnation = excluded.capable_incarnation
       where endpoint_queues.endpoint_id = excluded.endpoint_id`,
    [
      agent.id,
      agent.ownerId,
      agent.name,
      agent.displayName,
      agent.isPublic,
      agent.groupId,
      agent.allowedFunctions,
      JSON.stringify(agent.metadata),
      agent.incarnation,
      agent.workers,
      agent.heartbeatPeriodS,
      agent.windowFloor,
      agent.windowSpanS,
      agent.kind,
      agent.capabilities ?? [],
    ],
  );
  return rowCount === 1;
}

export async function lockEndpoint(db: Database, id: string, seconds: number): Promise<Date | undefined> {
  const { rows } = await db.query<{ until: Date }>(
    `update endpoints set locked_until = now() + $2::double precision * interval '1 second'
      where id = $1 and deleted_at is null returning locked_until as until`,
    [id, seconds],
  );
  return rows[0]?.until;
}

/** Changes the functions that an endpoint allows; an empty list allows all. False when the endpoint does not exist. */
export async function changeAllowedFunctions(
  db: Database,
  id: string,
  add: readonly string[],
  remove: readonly string[],
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update endpoints e set allowed_functions = (
       select nullif(array(select distinct f from unnest(coalesce(e.allowed_functions, '{}') || $2::uuid[]) as f
                            where not (f = any ($3::uuid[])) order by f), '{}'))
      where e.id = $1 and e.deleted_at is null`,
    [id, add, remove],
  );
  return rowCount === 1;
}

/** Marks the endpoint deleted and its queues offline. Idempotent. */
export async function deleteEndpoint(db: Database, id: string): Promise<void> {
  await db.query(
    `with gone as (update endpoints set deleted_at = now() where id = $1 and deleted_at is null returning id),
          locked as (
            select q.id from endpoint_queues q join gone on q.endpoint_id = gone.id order by q.id for no key update of q
          )
     update endpoint_queues q set is_online = false, changed_at = now() from locked where q.id = locked.id`,
    [id],
  );
}

/** The facts about a function that the checks of a submission need. */
export interface CallableRow {
  id: string;
  name: string;
  ownerId: string;
  isPublic: boolean;
  groupId: string | null;
  policy: Policy;
  /** The first characters of the code, which show how it is serialized. */
  codeStart: string;
  codeBytes: number;
  /** Version of the Globus Compute SDK that registered it, if it was sent. */
  sdkVersion: string | null;
}

export interface SubmitTarget {
  id: string;
  name: string;
  kind: EndpointKind;
  ownerId: string;
  isPublic: boolean;
  groupId: string | null;
  allowedFunctions: string[] | null;
  functions: CallableRow[];
}

/** The endpoints of a submission, each with the existing functions of the submission, in one round trip. */
export async function readSubmitTargets(
  db: Database,
  endpointIds: readonly string[],
  functionIds: readonly string[],
): Promise<SubmitTarget[]> {
  const { rows } = await db.query<SubmitTarget>({
    name: 'submit-targets',
    text: `select e.id, e.name, e.kind, e.owner_id as "ownerId", e.is_public as "isPublic", e.group_id as "groupId",
                  e.allowed_functions as "allowedFunctions", coalesce(f.functions, '[]') as functions
             from endpoints e
             left join lateral (
               select json_agg(json_build_object('id', f.id, 'name', f.name, 'ownerId', f.owner_id, 'isPublic', f.is_public,
                                                 'groupId', f.group_id, 'policy', f.policy,
                                                 'sdkVersion', f.metadata->>'sdk_version', 'codeBytes', octet_length(f.code),
                                                 'codeStart', encode(substring(f.code for 16), 'escape'))) as functions
                 from functions f where f.id = any ($2) and f.deleted_at is null) f on true
            where e.id = any ($1) and e.deleted_at is null`,
    values: [endpointIds, functionIds],
  });
  return rows;
}

export async function endpointOfQueue(
  db: Database,
  endpointQueueId: string,
): Promise<{ endpointId: string; ownerId: string; ownerName: string } | undefined> {
  const { rows } = await db.query<{ endpointId: string; ownerId: string; ownerName: string }>(
    `select e.id as "endpointId", i.id as "ownerId", i.name as "ownerName"
       from endpoint_queues q join endpoints e on e.id = q.endpoint_id join identities i on i.id = e.owner_id where q.id = $1`,
    [endpointQueueId],
  );
  return rows[0];
}
