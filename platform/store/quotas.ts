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

/** Statements that count an owner's usage. Functions with equal code count once: stock clients register them in each process. */
const COUNTS: Record<QuotaName, string> = {
  open_tasks: 'select coalesce(sum(open), 0) from submissions where owner_id = $1 and is_open',
  open_groups: 'select count(distinct task_group_id) from submissions where owner_id = $1 and is_open',
  functions: 'select count(distinct code_key) from functions where owner_id = $1 and deleted_at is null',
  endpoints: 'select count(*) from endpoints where owner_id = $1 and deleted_at is null',
  user_endpoints: `select count(*) from endpoint_queues q join endpoints e on e.id = q.endpoint_id
                    where q.owner_id = $1 and e.deleted_at is null`,
  stored_bytes: `(select coalesce(sum(stored_bytes), 0) from submissions where owner_id = $1)
                 + (select coalesce(sum(octet_length(code)), 0) from functions where owner_id = $1 and deleted_at is null)`,
  api_tokens: `select count(*) from access_tokens where identity_id = $1 and kind = 'api' and expires_at > now()`,
  schedules: 'select count(*) from schedules where owner_id = $1 and deleted_at is null',
  active_runs: `select count(*) from flow_runs where owner_id = $1 and status = 'ACTIVE'`,
};

export async function countOf(db: Database, ownerId: string, name: QuotaName): Promise<number> {
  const { rows } = await db.query<{ used: string }>({
    name: `quota-${name}`,
    text: `select (${COUNTS[name]}) as used`,
    values: [ownerId],
  });
  return Number(rows[0]?.used ?? 0);
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
