import type { PoolClient } from 'pg';

import type { Database } from './database';

/**
 * Accepted submits whose HTTP response may not have been written. Stock clients repeat a submit when the connection breaks,
 * without an idempotency key, and distinct submits of the same call have the same bytes. So a request counts as a repeat
 * only if an equal request lost its connection, or its process died, before the response was written.
 */

/** Stored in the same statement as the bodies of the submission. */
export interface UnansweredRequest {
  id: string;
  bodyHash: Buffer;
  /** The address on which the accepting process listens; only one process can listen there. */
  listener: string;
  /** Unique for each start of a process. */
  process: string;
}

/** What is written in the transaction that accepts the request. */
export interface AnsweredLater extends UnansweredRequest {
  ownerId: string;
  /** The endpoint, or the flow. */
  endpointId: string;
  response: unknown;
}

/** Clients repeat within this time, including their own timeouts. */
const MATCH_WITHIN_S = 600;

/** True when an equal request is marked lost. Every submit asks this, so it must stay cheap. */
export async function hasLostRequest(db: Database, ownerId: string, bodyHash: Buffer): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'has-lost-request',
    text: 'select 1 from unanswered_requests where owner_id = $1 and body_hash = $2 and lost_at is not null limit 1',
    values: [ownerId, bodyHash],
  });
  return rowCount === 1;
}

/** Removes the oldest equal request that is marked lost, and returns its response. Each is matched once. */
export async function takeLostRequest(db: Database, ownerId: string, bodyHash: Buffer): Promise<unknown> {
  const { rows } = await db.query<{ response: unknown }>(
    `delete from unanswered_requests where id = (
       select id from unanswered_requests
        where owner_id = $1 and body_hash = $2 and lost_at is not null
          and created_at > now() - $3::double precision * interval '1 second'
        order by created_at limit 1 for update skip locked)
     returning response`,
    [ownerId, bodyHash, MATCH_WITHIN_S],
  );
  return rows[0]?.response;
}

/** Call before the response is written: from then on an equal request is a new one. */
export async function forgetUnanswered(db: Database, id: string): Promise<void> {
  await db.query({ name: 'forget-unanswered', text: 'delete from unanswered_requests where id = $1', values: [id] });
}

/** Written together with what the request asked for. */
export async function insertUnanswered(client: Pick<PoolClient, 'query'>, request: AnsweredLater): Promise<void> {
  const { id, ownerId, endpointId, bodyHash, listener, process, response } = request;
  await client.query(
    `insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [id, ownerId, endpointId, bodyHash, listener, process, JSON.stringify(response)],
  );
}

/** Call when the connection closed before the response was written. */
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

/** Marks the unanswered requests of earlier processes at this address as lost: those processes ended. */
export async function markLostOfListener(db: Database, listener: string, process: string): Promise<number> {
  const { rowCount } = await db.query(
    'update unanswered_requests set lost_at = now() where listener = $1 and process <> $2 and lost_at is null',
    [listener, process],
  );
  return rowCount ?? 0;
}

export async function removeOldUnanswered(db: Database, olderThanS: number): Promise<void> {
  await db.query(`delete from unanswered_requests where created_at < now() - $1::double precision * interval '1 second'`, [
    olderThanS,
  ]);
}
