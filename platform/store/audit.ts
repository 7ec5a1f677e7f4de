import type { AuditEntry } from '../../contracts/http/v1-identities';
import type { Database } from './database';
import { storableJson } from './storable';

/** The rows of the audit log, see `api/audit.ts`. */

export async function insertAuditEntries(db: Database, entries: readonly AuditEntry[]): Promise<void> {
  await db.query({
    name: 'insert-audit',
    text: `insert into audit_entries (at, identity_id, outcome, entry)
           select (entry ->> 'at')::timestamptz, (entry ->> 'identity')::uuid, entry ->> 'outcome', entry
             from jsonb_array_elements($1::jsonb) entry`,
    values: [storableJson(entries)],
  });
}

export interface AuditFilter {
  identity?: string;
  outcome?: 'allowed' | 'refused';
  /** Only entries before this ISO 8601 time. */
  before?: string;
  limit: number;
}

/** Newest first. */
export async function listAuditEntries(db: Database, filter: AuditFilter): Promise<AuditEntry[]> {
  const { rows } = await db.query<{ entry: AuditEntry }>({
    name: 'list-audit',
    text: `select entry from audit_entries
            where ($1::uuid is null or identity_id = $1) and ($2::text is null or outcome = $2)
              and ($3::timestamptz is null or at < $3)
            order by at desc, id desc limit $4`,
    values: [filter.identity ?? null, filter.outcome ?? null, filter.before ?? null, filter.limit],
  });
  return rows.map(({ entry }) => entry);
}

export async function deleteOldAuditEntries(db: Database, days: number): Promise<void> {
  await db.query(`delete from audit_entries where at < now() - $1::double precision * interval '1 day'`, [days]);
}
