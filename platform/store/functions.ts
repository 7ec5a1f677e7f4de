import type { Policy } from '../../contracts/policy';
import type { Database } from './database';

/** Registered functions. Their code is opaque to the service. */

export interface NewFunction {
  id: string;
  ownerId: string;
  name: string;
  /** The packed buffer of the code. A task buffer is this buffer followed by the payload. */
  code: Buffer;
  isSerialized: boolean;
  description: string | null;
  isPublic: boolean;
  groupId: string | null;
  metadata: Record<string, unknown>;
  policy: Policy;
}

export interface FunctionRow extends NewFunction {
  createdAt: Date;
}

export type FunctionSummary = Omit<FunctionRow, 'code' | 'metadata' | 'policy' | 'isSerialized'>;

const SUMMARY = `id, owner_id as "ownerId", name, description, is_public as "isPublic", group_id as "groupId", created_at as "createdAt"`;

export async function insertFunction(db: Database, fn: NewFunction): Promise<void> {
  await db.query({
    name: 'insert-function',
    text: `insert into functions (id, owner_id, name, code, is_serialized, description, is_public, group_id, metadata, policy)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    values: [
      fn.id,
      fn.ownerId,
      fn.name,
      fn.code,
      fn.isSerialized,
      fn.description,
      fn.isPublic,
      fn.groupId,
      JSON.stringify(fn.metadata),
      JSON.stringify(fn.policy),
    ],
  });
}

export async function findFunction(db: Database, id: string): Promise<FunctionRow | undefined> {
  const { rows } = await db.query<FunctionRow>(
    `select ${SUMMARY}, code, is_serialized as "isSerialized", metadata, policy from functions where id = $1 and deleted_at is null`,
    [id],
  );
  return rows[0];
}

export async function deleteFunction(db: Database, id: string): Promise<void> {
  // The row stays, because accepted tasks still run.
  await db.query('update functions set deleted_at = now() where id = $1 and deleted_at is null', [id]);
}

/** Newest first. */
export async function listFunctions(
  db: Database,
  ownerId: string,
  { name, codeSha256 }: { name?: string; codeSha256?: string },
): Promise<FunctionSummary[]> {
  const { rows } = await db.query<FunctionSummary>(
    `select ${SUMMARY} from functions
      where owner_id = $1 and deleted_at is null and ($2::text is null or name = $2)
        and ($3::text is null or (sha256(code) = decode($3, 'hex') and policy = '{}'))
      order by created_at desc, id limit 10000`,
    [ownerId, name ?? null, codeSha256 ?? null],
  );
  return rows;
}
