import type { Identity } from '../access';
import type { Database } from './database';

/** Reads and writes for pipeline calls: identities, names of endpoints and functions, outcomes of tasks. */

/** False when the task queue belongs to another identity. */
export async function bindPipelineQueue(
  db: Database,
  binding: { namespace: string; taskQueue: string; identityId: string },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into pipeline_queues (namespace, task_queue, identity_id) values ($1, $2, $3)
     on conflict (namespace, task_queue) do update set registered_at = now()
       where pipeline_queues.identity_id = excluded.identity_id`,
    [binding.namespace, binding.taskQueue, binding.identityId],
  );
  return rowCount === 1;
}

export interface PipelineFunction {
  ownerId: string;
  name: string;
  version: string;
  code: Buffer;
  language: string;
}

export type SavedFunction = { id: string; isSame: boolean };

/** Registers a name and version, or finds the existing one. `isSame` is false when it exists with other code. */
export async function savePipelineFunction(db: Database, id: string, fn: PipelineFunction): Promise<SavedFunction> {
  const metadata = { pipeline: true, version: fn.version, language: fn.language };
  await db.query(
    `insert into functions (id, owner_id, name, code, is_serialized, metadata) values ($1, $2, $3, $4, false, $5)
     on conflict do nothing`,
    [id, fn.ownerId, fn.name, fn.code, JSON.stringify(metadata)],
  );
  const { rows } = await db.query<SavedFunction>(
    `select id, code = $4 as "isSame" from functions
      where owner_id = $1 and name = $2 and metadata ->> 'version' = $3 and metadata ? 'pipeline' and deleted_at is null`,
    [fn.ownerId, fn.name, fn.version, fn.code],
  );
  const row = rows[0];
  if (!row) throw new Error(`function ${fn.name}@${fn.version} was neither registered nor found`);
  return row;
}

const IDENTITY = `select i.id, i.name, i.is_admin as "isAdmin",
    array(select m.group_id::text from group_members m where m.identity_id = i.id) as groups from identities i`;

/** The identity that calls of workflows on this Temporal task queue act as; undefined when it is not registered. */
export async function findQueueIdentity(db: Database, namespace: string, taskQueue: string): Promise<Identity | undefined> {
  return oneIdentity(
    db,
    `${IDENTITY} join pipeline_queues q on q.identity_id = i.id
      where q.namespace = $1 and q.task_queue = $2 and i.revoked_at is null`,
    [namespace, taskQueue],
  );
}

/** By name or id. */
export async function findIdentity(db: Database, nameOrId: string): Promise<Identity | undefined> {
  return oneIdentity(db, `${IDENTITY} where (i.name = $1 or i.id::text = lower($1)) and i.revoked_at is null limit 1`, [
    nameOrId,
  ]);
}

async function oneIdentity(db: Database, text: string, values: string[]): Promise<Identity | undefined> {
  const { rows } = await db.query<Omit<Identity, 'groups'> & { groups: string[] }>(text, values);
  const row = rows[0];
  return row && { ...row, groups: new Set(row.groups) };
}

/** Ids of visible endpoints with this name: the identity's own, or else those shared with it. */
export async function findEndpointIds(db: Database, identity: Identity, name: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string; own: boolean }>(
    `select id, owner_id = $2 as own from endpoints
      where name = $1 and deleted_at is null and (owner_id = $2 or is_public or group_id = any ($3))`,
    [name, identity.id, [...identity.groups]],
  );
  const own = rows.filter((row) => row.own);
  return (own.length > 0 ? own : rows).map((row) => row.id);
}

/** The newest visible function with this name, and with this version if given. Prefers the identity's own. */
export async function findFunctionId(
  db: Database,
  identity: Identity,
  name: string,
  version: string | undefined,
): Promise<string | undefined> {
  const { rows } = await db.query<{ id: string }>(
    `select id from functions
      where name = $1 and deleted_at is null and (owner_id = $2 or is_public or group_id = any ($3))
        and ($4::text is null or metadata ->> 'version' = $4)
      order by owner_id = $2 desc, created_at desc limit 1`,
    [name, identity.id, [...identity.groups], version ?? null],
  );
  return rows[0]?.id;
}

/** Sizes of the results that may be referenced: those of the owner's succeeded tasks. Omits results that no longer exist. */
export async function readReferable(db: Database, ownerId: string, taskIds: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await db.query<{ id: string; bytes: number }>(
    `select r.id, octet_length(r.frame) as bytes from results r join tasks t on t.id = r.id
      where r.id = any ($1) and t.id = any ($1) and t.owner_id = $2 and t.state = 'succeeded'`,
    [taskIds, ownerId],
  );
  return new Map(rows.map(({ id, bytes }) => [id, bytes]));
}

/** The outcome of one task. Contains the value only if it is small JSON text. */
export interface OutcomeRow {
  id: string;
  succeeded: boolean;
  /** Code and text of a failure. */
  code: string | null;
  text: string | null;
  /** What the agent reports of a failure, such as the classes of the exception. */
  details: unknown;
  /** Size of the serialized value. */
  size: number;
  /** JSON text, if the value is small JSON. */
  json: string | null;
  /** Hash of the serialized value, if `json` is null. */
  sha256: string | null;
}

const MAX_TRACEBACK_CHARS = 20_000;

/** Outcomes in the order of the tasks, without open tasks. Large values stay in the store, which computes size and hash. */
export async function readOutcomes(db: Database, submissionIds: readonly string[], maxJsonBytes: number): Promise<OutcomeRow[]> {
  const { rows } = await db.query<OutcomeRow>(
    `select r.id, t.state = 'succeeded' as succeeded,
            case when t.state <> 'succeeded' then coalesce(d.body #>> '{error_details,code}', t.state) end as code,
            case when t.state <> 'succeeded' then left(v.data, ${MAX_TRACEBACK_CHARS}) end as text,
            case when t.state <> 'succeeded' then d.body -> 'details' end as details,
            v.size, case when v.is_small then substr(v.data, 4) end as json,
            case when t.state = 'succeeded' and not v.is_small then encode(sha256(convert_to(v.data, 'UTF8')), 'hex') end as sha256
       from unnest($1::uuid[]) with ordinality as s (id, n)
       join tasks t on t.id > s.id and t.id <= last_task_of(s.id)
       join results r on r.id = t.id
       cross join lateral (select convert_from(substring(r.frame from 2), 'UTF8')::json -> 'data' as body offset 0) d
       cross join lateral (select x.data, octet_length(x.data) as size,
                                  left(x.data, 3) = E'11\\n' and octet_length(x.data) <= $2 as is_small
                             from (select d.body ->> 'data' as data offset 0) x offset 0) v
      order by s.n, r.id`,
    [submissionIds, maxJsonBytes],
  );
  return rows;
}

/** The JSON text of a result; undefined when it is not JSON. */
export async function readOutcomeText(db: Database, taskId: string): Promise<string | undefined> {
  const { rows } = await db.query<{ data: string }>(
    `select convert_from(substring(frame from 2), 'UTF8')::json #>> '{data,data}' as data from results where id = $1`,
    [taskId],
  );
  const data = rows[0]?.data;
  return data?.startsWith('11\n') ? data.slice(3) : undefined;
}
