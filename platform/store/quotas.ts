import { randomUUID } from 'node:crypto';

import type { Database } from './database';

/** What one owner uses of everything that is limited. */
export interface Usage {
  open_tasks: number;
  open_groups: number;
  functions: number;
  endpoints: number;
  user_endpoints: number;
  stored_bytes: number;
  api_tokens: number;
  schedules: number;
  active_runs: number;
}
export type QuotaName = keyof Usage;

export async function countOf(db: Database, ownerId: string, name: QuotaName): Promise<number> {
  const { rows } = await db.query<{ used: number }>({
    name: 'quota-used',
    text: 'select quota_used($1, $2) as used',
    values: [ownerId, name],
  });
  return rows[0]?.used ?? 0;
}

/** The leases of one process, in a store that all processes share. */
export interface QuotaLeases {
  /**
   * Leases room for what is reserved and `more`, or for what is reserved and a share of the room, if that is more and not small.
   * If what is needed does not fit beside the leases of others, the lease holds only what is reserved. Replaces the earlier lease
   * of this process.
   */
  lease(ownerId: string, wanted: WantedLease): Promise<Lease>;
  /** Ends the lease of this process before its lifetime is over. */
  giveBack(ownerId: string): Promise<void>;
}

interface WantedLease {
  limit: number;
  reserved: number;
  more: number;
  /** A share is the room divided by this number. */
  shares: number;
  lifetimeS: number;
}

export interface Lease {
  /** What the owner has in the store. */
  used: number;
  /** The leases of other processes. */
  others: number;
  leased: number;
}

/** Each call makes the leases of another holder. A process has one holder for each limit. */
export function leasesOf(db: Database, name: QuotaName): QuotaLeases {
  const process = randomUUID();
  return {
    async lease(ownerId, { limit, reserved, more, shares, lifetimeS }) {
      const { rows } = await db.query<Lease>({
        name: 'lease-quota',
        text: 'select used, others, leased from lease_quota($1, $2, $3, $4, $5, $6, $7, $8)',
        values: [ownerId, name, process, limit, reserved, more, shares, lifetimeS],
      });
      return rows[0]!; // the function always returns one row
    },
    async giveBack(ownerId) {
      await db.query({
        name: 'give-quota-back',
        text: 'delete from quota_leases where owner_id = $1 and quota = $2 and process = $3',
        values: [ownerId, name, process],
      });
    },
  };
}

/** True if the owner has an open task in this group. */
export async function isOpenGroup(db: Database, ownerId: string, groupId: string): Promise<boolean> {
  const { rows } = await db.query('select 1 from submissions where owner_id = $1 and task_group_id = $2 and is_open limit 1', [
    ownerId,
    groupId,
  ]);
  return rows.length > 0;
}

export async function hasCode(db: Database, ownerId: string, code: Buffer): Promise<boolean> {
  const { rows } = await db.query(
    'select 1 from functions where owner_id = $1 and code_key = md5($2::bytea)::uuid and deleted_at is null limit 1',
    [ownerId, code],
  );
  return rows.length > 0;
}
