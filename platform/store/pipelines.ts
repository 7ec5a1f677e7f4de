import { TerminalError } from '../../contracts/errors';
import type { Identity } from '../access';
import type { Database } from './database';

/** Reads and writes for pipeline calls: identities, names of endpoints and functions, outcomes of tasks. */

/** Binds a task queue to an identity. False if it belongs to another identity; an administrator can take it over. */
export async function bindPipelineQueue(
  db: Database,
  binding: { namespace: string; taskQueue: string; identityId: string; isAdmin: boolean },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into pipeline_queues (namespace, task_queue, identity_id) values ($1, $2, $3)
     on conflict (namespace, task_queue) do update set registered_at = now(), identity_id = excluded.identity_id
       where pipeline_queues.identity_id = excluded.identity_id or $4`,
    [binding.namespace, binding.taskQueue, binding.identityId, binding.isAdmin],
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

/** Undefined if the queue is not registered. Throws FORBIDDEN if its identity was revoked: the default must not act instead. */
export async function findQueueIdentity(db: Database, namespace: string, taskQueue: string): Promise<Identity | undefined> {
  const { rows } = await db.query<{ name: string; isRevoked: boolean }>(
    `select i.name, i.revoked_at is not null as "isRevoked" from identities i join pipeline_queues q on q.identity_id = i.id
      where q.namespace = $1 and q.task_queue = $2`,
    [namespace, taskQueue],
  );
  const [bound] = rows;
  if (!bound) return undefined;
  if (bound.isRevoked) {
    throw new TerminalError(
      'FORBIDDEN',
      `the task queue ${taskQueue} of namespace ${namespace} belongs to ${bound.name}, whose identity was revoked; use another task queue`,
    );
  }
  return oneIdentity(
    db,
    `${IDENTITY} join pipeline_queues q on q.identity_id = i.id
      where q.namespace = $1 and q.task_queue = $2 and i.revoked_at is null`,
    [namespace, taskQueue],
  );
}

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

/**
 * Resolves a name: a bare name means the identity's own object, and `owner/name` an object of that owner (by name or ID). A bare
 * name never means another owner's object; otherwise a newer public object of the same name would receive the calls.
 */
const OWNER_AND_NAME = `((owner_id = $2 and name = $1)
  or (owner_id = (select i.id from identities i where i.name = split_part($1, '/', 1) or i.id::text = lower(split_part($1, '/', 1))
                   order by i.name = split_part($1, '/', 1) desc limit 1)
      and name = substr($1, strpos($1, '/') + 1) and strpos($1, '/') > 1
      and (owner_id = $2 or is_public or group_id = any ($3))))`;

export async function findEndpointIds(db: Database, identity: Identity, name: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(`select id from endpoints where deleted_at is null and ${OWNER_AND_NAME}`, [
    name,
    identity.id,
    [...identity.groups],
  ]);
  return rows.map(({ id }) => id);
}

/** The newest function that a name means, with this version if given. */
export async function findFunctionId(
  db: Database,
  identity: Identity,
  name: string,
  version: string | undefined,
): Promise<string | undefined> {
  const { rows } = await db.query<{ id: string }>(
    `select id from functions where deleted_at is null and ${OWNER_AND_NAME}
        and ($4::text is null or metadata ->> 'version' = $4)
      order by name = $1 desc, created_at desc limit 1`,
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

export interface OutcomeRow {
  id: string;
  succeeded: boolean;
  code: string | null;
  text: string | null;
  /** What the agent reports about a failure, such as the classes of the exception. */
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

/** The IDs of all tasks of these submissions, in the order of the tasks. */
export async function listTaskIds(db: Database, submissionIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select t.id from unnest($1::uuid[]) with ordinality as s (id, n)
       join tasks t on t.id > s.id and t.id <= last_task_of(s.id) order by s.n, t.id`,
    [submissionIds],
  );
  return rows.map(({ id }) => id);
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
