import type { TokenScope } from '../../contracts/http/tokens';
import type { Database } from './database';

/** API tokens: access tokens with a name, scopes and an expiry time, which their owner can list and revoke. */

export interface ApiTokenRow {
  id: string;
  name: string;
  scopes: TokenScope[];
  createdAt: Date;
  expiresAt: Date;
  lastUsedAt: Date | null;
}

const COLUMNS = `id, name, string_to_array(scope, ' ') as scopes, created_at as "createdAt", expires_at as "expiresAt",
                 last_used_at as "lastUsedAt"`;
/** Uses are recorded at most this often, so that a busy token does not cause a write for each request. */
const USED_EVERY = '1 minute';

/** Returns `taken` if a valid token of the identity has the name, and `full` if the identity has `max` tokens. */
export async function insertApiToken(
  db: Database,
  token: { id: string; hash: Buffer; identityId: string; name: string; scopes: readonly TokenScope[]; expiresInS: number },
  max: number,
): Promise<ApiTokenRow | 'taken' | 'full'> {
  const { id, hash, identityId, name, scopes, expiresInS } = token;
  // Delete expired tokens first, so that their names can be used again.
  await db.query('delete from access_tokens where expires_at < now()');
  const { rows } = await db.query<ApiTokenRow>(
    `insert into access_tokens (hash, identity_id, kind, scope, resource_server, expires_at, id, name)
     select $1, $2, 'api', $3, '*', now() + $4::double precision * interval '1 second', $5, $6
      where (select count(*) from access_tokens where identity_id = $2 and kind = 'api') < $7
         on conflict do nothing
     returning ${COLUMNS}`,
    [hash, identityId, scopes.join(' '), expiresInS, id, name, max],
  );
  if (rows[0]) return rows[0];
  return (await listApiTokens(db, identityId)).some((one) => one.name === name) ? 'taken' : 'full';
}

export async function listApiTokens(db: Database, identityId: string): Promise<ApiTokenRow[]> {
  const { rows } = await db.query<ApiTokenRow>(
    `select ${COLUMNS} from access_tokens where identity_id = $1 and kind = 'api' and expires_at > now() order by created_at, id`,
    [identityId],
  );
  return rows;
}

/** Revokes a token by name or ID. Returns its ID; undefined if the identity has no such token. */
export async function deleteApiToken(db: Database, identityId: string, nameOrId: string): Promise<string | undefined> {
  const { rows } = await db.query<{ id: string }>(
    `delete from access_tokens where kind = 'api' and identity_id = $1
        and id = (select id from access_tokens where kind = 'api' and identity_id = $1 and (name = $2 or id::text = lower($2))
                   order by name = $2 desc limit 1)
     returning id`,
    [identityId, nameOrId],
  );
  return rows[0]?.id;
}

export async function recordTokenUse(db: Database, tokenId: string): Promise<void> {
  await db.query(
    `update access_tokens set last_used_at = now()
      where id = $1 and (last_used_at is null or last_used_at < now() - interval '${USED_EVERY}')`,
    [tokenId],
  );
}

export async function listValidTokens(db: Database, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const { rows } = await db.query<{ id: string }>('select id from access_tokens where id = any ($1) and expires_at > now()', [
    ids,
  ]);
  return rows.map(({ id }) => id);
}
