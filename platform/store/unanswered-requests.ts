import type { PoolClient } from 'pg';

import type { Database } from './database';

/**
 * Accepted submits whose HTTP response may not have been written. Stock clients repeat a submit when the connection breaks,
 * without an idempotency key, and separate submits of the same call have the same bytes. So a request counts as a repeat only if
 * an equal request lost its connection, or its process died, before the response was written.
 */

/** Stored in the same statement as the bodies of the submission. */
export interface UnansweredRequest {
  id: string;
  bodyHash: Buffer;
  /** The address on which the accepting process listens; replicas of one supervisor share it. */
  listener: string;
  /** Unique for each start of a process. */
  process: string;
}

export interface AnsweredLater extends UnansweredRequest {
  ownerId: string;
  /** The endpoint, or the flow. */
  endpointId: string;
  response: unknown;
}

/** Clients repeat a request within this time, including their own timeouts. */
const MATCH_WITHIN_S = 600;

/** A process that has not renewed its lease for this long counts as dead. Much longer than any pause of its event loop. */
const LEASE_S = 10;

/**
 * Whether an equal request exists: `lost` if its response was never written, `pending` if another process, which is not known to
 * be dead, is about to write the response. `aliveAt` is when that process last renewed its lease.
 */
export type EqualRequest = { state: 'none' } | { state: 'lost' } | { state: 'pending'; aliveAt: Date };

export interface RequestKey {
  ownerId: string;
  bodyHash: Buffer;
}

/** Finds an equal request for each of these requests, in order. Every submit calls this function, so it must stay cheap. */
export async function findEqualRequests(
  db: Database,
  requests: readonly RequestKey[],
  ownProcess: string,
): Promise<EqualRequest[]> {
  // Processes of earlier versions have no lease: their requests become lost only through `markLostOfListener`.
  const { rows } = await db.query<{ lost: boolean | null; aliveAt: Date | null }>({
    name: 'equal-requests',
    text: `select equal.lost, equal.alive_at as "aliveAt"
             from unnest($1::uuid[], $2::bytea[]) with ordinality as given (owner_id, body_hash, n)
             left join lateral (
               select r.lost_at is not null or coalesce(p.alive_at < now() - $4::double precision * interval '1 second', false) as lost,
                      p.alive_at
                 from unanswered_requests r left join api_processes p on p.id = r.process
                where r.owner_id = given.owner_id and r.body_hash = given.body_hash
                  and (r.process is distinct from $3 or r.lost_at is not null)
                order by 1 desc, 2 limit 1) equal on true
            order by given.n`,
    values: [requests.map(({ ownerId }) => ownerId), requests.map(({ bodyHash }) => bodyHash), ownProcess, LEASE_S],
  });
  return rows.map(({ lost, aliveAt }) => {
    if (lost) return { state: 'lost' };
    return aliveAt ? { state: 'pending', aliveAt } : { state: 'none' };
  });
}

/**
 * Takes over the oldest equal request that was lost, and returns its response. The record becomes that of the repeat, with the ID
 * of `entry`: each lost request is matched once, and the repeat is as safe as the request was.
 */
export async function takeLostRequest(db: Database, ownerId: string, entry: UnansweredRequest): Promise<unknown> {
  const { rows } = await db.query<{ response: unknown }>(
    `update unanswered_requests set id = $5, listener = $6, process = $7, lost_at = null where id = (
       select r.id from unanswered_requests r left join api_processes p on p.id = r.process
        where r.owner_id = $1 and r.body_hash = $2
          and (r.lost_at is not null or p.alive_at < now() - $4::double precision * interval '1 second')
          and r.created_at > now() - $3::double precision * interval '1 second'
        order by r.created_at limit 1 for update of r skip locked)
     returning response`,
    [ownerId, entry.bodyHash, MATCH_WITHIN_S, LEASE_S, entry.id, entry.listener, entry.process],
  );
  return rows[0]?.response;
}

/** Call before the responses are written: after this, an equal request counts as a new request. */
export async function forgetUnanswered(db: Database, ids: readonly string[]): Promise<void> {
  await db.query({ name: 'forget-unanswered', text: 'delete from unanswered_requests where id = any ($1)', values: [ids] });
}

/** Call before, or in the transaction that writes what was requested. */
export async function insertUnanswered(client: Pick<PoolClient, 'query'>, request: AnsweredLater): Promise<void> {
  const { id, ownerId, endpointId, bodyHash, listener, process, response } = request;
  await client.query(
    `insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [id, ownerId, endpointId, bodyHash, listener, process, JSON.stringify(response)],
  );
}

/** Marks a request as lost. Call when its connection closed before the response was written. */
export async function saveLost(
  db: Database,
  request: UnansweredRequest & { ownerId: string; endpointId: string; response: unknown },
): Promise<void> {
  await db.query(
    `insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response, lost_at)
     values ($1, $2, $3, $4, $5, $6, $7, now()) on conflict (id) do update set lost_at = now()`,
    [
      request.id,
      request.ownerId,
      request.endpointId,
      request.bodyHash,
      request.listener,
      request.process,
      JSON.stringify(request.response),
    ],
  );
}

/** A request whose response is an error although it is stored, or may be. */
export type InDoubt = UnansweredRequest & { ownerId: string; endpointId: string };

/** The body hash of a record that only occupies the ID of a request that is not stored. No request is equal to it. */
const NOTHING = Buffer.alloc(0);

/**
 * Determines for each request in doubt whether it is stored. A stored request counts as lost from now on; any other request can
 * no longer be stored. Waits for statements that are still running. A statement that arrives later fails, because its ID is
 * taken. Returns the IDs of the stored requests.
 */
export async function settleInDoubt(db: Database, requests: readonly InDoubt[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'settle-in-doubt',
    text: `with settled as (
             insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response)
             select given.id, given.owner_id, given.endpoint_id, $4, given.listener, given.process, 'null'
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $5::text[], $6::uuid[])
                 as given (id, owner_id, endpoint_id, listener, process)
              order by given.id
             on conflict (id) do update set lost_at = now()
             returning id, body_hash)
           select id from settled where body_hash <> $4`,
    values: [
      requests.map(({ id }) => id),
      requests.map(({ ownerId }) => ownerId),
      requests.map(({ endpointId }) => endpointId),
      NOTHING,
      requests.map(({ listener }) => listener),
      requests.map(({ process }) => process),
    ],
  });
  return new Set(rows.map(({ id }) => id));
}

/** A process renews its lease every second, so a process with a younger lease is alive and may still write its last responses. */
const MISSED_RENEWALS_S = 3;

/** Marks unanswered requests of earlier processes at this address as lost, unless those processes still renew their leases. */
export async function markLostOfListener(db: Database, listener: string, process: string): Promise<number> {
  const { rowCount } = await db.query(
    `update unanswered_requests r set lost_at = now()
      where r.listener = $1 and r.process <> $2 and r.lost_at is null
        and not exists (select from api_processes p
                         where p.id = r.process and p.alive_at > now() - $3::double precision * interval '1 second')`,
    [listener, process, MISSED_RENEWALS_S],
  );
  return rowCount ?? 0;
}

/** Removes requests that no client repeats any more, and equally old leases of processes that ended. */
export async function removeOldUnanswered(db: Database, olderThanS: number): Promise<void> {
  const age = `now() - $1::double precision * interval '1 second'`;
  await db.query(`delete from unanswered_requests where created_at < ${age}`, [olderThanS]);
  await db.query(`delete from api_processes where alive_at < ${age}`, [olderThanS]);
}
