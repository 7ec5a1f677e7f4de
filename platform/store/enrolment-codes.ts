import type { Database } from './database';

/** Codes with which agents on other machines enrol. An endpoint has one code; a new code replaces the previous one. */

export interface EnrolmentCode {
  /** False when the endpoint has another code, or the code was replaced. */
  isRight: boolean;
  isExpired: boolean;
  isUsed: boolean;
  /** The identity of the agent that enrolled last. */
  agentId: string | null;
  endpointName: string;
  isEndpointDeleted: boolean;
  /** The owner of the endpoint, or the identity that created the code, was revoked. */
  isRevoked: boolean;
}

export async function saveEnrolmentCode(
  db: Database,
  code: { endpointId: string; hash: Buffer; createdBy: string; lifetimeS: number },
): Promise<Date> {
  const { rows } = await db.query<{ expiresAt: Date }>(
    `insert into enrolment_codes (endpoint_id, hash, created_by, expires_at)
     values ($1, $2, $3, now() + $4::double precision * interval '1 second')
     on conflict (endpoint_id) do update
        set hash = excluded.hash, created_by = excluded.created_by, expires_at = excluded.expires_at, used_at = null
     returning expires_at as "expiresAt"`,
    [code.endpointId, code.hash, code.createdBy, code.lifetimeS],
  );
  return rows[0]!.expiresAt; // The statement always writes one row.
}

/** Undefined when the endpoint never had a code. */
export async function readEnrolmentCode(db: Database, endpointId: string, hash: Buffer): Promise<EnrolmentCode | undefined> {
  const { rows } = await db.query<EnrolmentCode>(
    `select c.hash = $2 as "isRight", c.expires_at <= now() as "isExpired", c.used_at is not null as "isUsed",
            c.agent_id as "agentId", e.name as "endpointName", e.deleted_at is not null as "isEndpointDeleted",
            exists (select from identities i where i.id in (e.owner_id, c.created_by) and i.revoked_at is not null) as "isRevoked"
       from enrolment_codes c join endpoints e on e.id = c.endpoint_id
      where c.endpoint_id = $1`,
    [endpointId, hash],
  );
  return rows[0];
}

/**
 * Redeems the code, once: creates the identity of the agent, which may only serve this endpoint, and revokes the identity of the
 * agent that enrolled before. False when the code cannot be used.
 */
export async function takeEnrolmentCode(
  db: Database,
  taken: { endpointId: string; hash: Buffer; agentId: string; secretHash: string },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `with usable as (
       select c.agent_id as earlier_id, e.owner_id from enrolment_codes c join endpoints e on e.id = c.endpoint_id
        where c.endpoint_id = $1 and c.hash = $2 and c.used_at is null and c.expires_at > now() and e.deleted_at is null
          for update of c
     ), added as (
       insert into identities (id, name, secret_hash, agent_endpoint_id, agent_owner_id)
       select $3::uuid, 'agent-' || $3::uuid, $4::text, $1::uuid, owner_id from usable returning id
     ), gone as (
       update identities set revoked_at = now() where id in (select earlier_id from usable)
     )
     update enrolment_codes set used_at = now(), agent_id = added.id from added where endpoint_id = $1`,
    [taken.endpointId, taken.hash, taken.agentId, taken.secretHash],
  );
  return rowCount === 1;
}
