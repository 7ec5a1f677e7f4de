import { randomBytes } from 'node:crypto';

import type { ProviderUser } from '../oidc/claims';
import type { Database } from './database';

/** Identities of the users of an OpenID Connect provider. */

export interface ProviderIdentity {
  id: string;
  name: string;
  isAdmin: boolean;
  isRevoked: boolean;
  /** IDs of the groups that the identity is a member of. */
  groups: string[];
}

interface Row extends ProviderIdentity {
  providerGroups: string[];
  /** Whether the memberships that come from provider groups differ from the user's current provider groups. */
  isStale: boolean;
}

/** Creates the identity on first use, and updates its groups and administrator role. Writes only if something changed. */
export async function ensureProviderIdentity(db: Database, user: ProviderUser): Promise<ProviderIdentity & { isNew: boolean }> {
  const known = await readIdentity(db, user);
  const row = known ?? (await insertIdentity(db, user));
  const isChanged = row.isStale || row.isAdmin !== user.isAdmin || !areEqual(row.providerGroups, user.groups);
  if (!isChanged || row.isRevoked) return { ...row, isNew: !known };
  await updateIdentity(db, row.id, user);
  return { ...((await readIdentity(db, user)) ?? row), isNew: !known };
}

async function readIdentity(db: Database, { issuer, subject, groups }: ProviderUser): Promise<Row | undefined> {
  const { rows } = await db.query<Row>({
    name: 'read-provider-identity',
    text: `select i.id, i.name, i.is_admin as "isAdmin", i.revoked_at is not null as "isRevoked",
                  i.provider_groups as "providerGroups",
                  exists(select from groups g where g.provider_group = any ($3)
                            and not exists (select from group_members m where m.group_id = g.id and m.identity_id = i.id))
                    or exists(select from group_members m join groups g on g.id = m.group_id
                               where m.identity_id = i.id and m.from_provider and not coalesce(g.provider_group = any ($3), false)) as "isStale",
                  array(select m.group_id::text from group_members m where m.identity_id = i.id) as groups
             from identities i where i.issuer = $1 and i.subject = $2`,
    values: [issuer, subject, groups],
  });
  return rows[0];
}

/**
 * Allows for two processes that insert the same user at the same time, and for other identities with the names of the user: users
 * may choose their names at the provider, but not the one with a random part.
 */
async function insertIdentity(db: Database, user: ProviderUser): Promise<Row> {
  const [, second] = user.names;
  const unguessable = second.replace('@', `-${randomBytes(4).toString('hex')}@`);
  for (const name of [...user.names, unguessable]) {
    await db.query(
      `insert into identities (id, name, is_admin, issuer, subject) values ($1, $2, $3, $4, $5) on conflict do nothing`,
      [user.id, name, user.isAdmin, user.issuer, user.subject],
    );
    const row = await readIdentity(db, user);
    if (row) return row;
  }
  throw new Error(`no identity could be created for the subject ${user.subject} of ${user.issuer}: its id is taken`);
}

async function updateIdentity(db: Database, id: string, { isAdmin, groups }: ProviderUser): Promise<void> {
  await db.query(
    `with role as (update identities set is_admin = $2, provider_groups = $3 where id = $1),
          given as (select g.id from groups g where g.provider_group = any ($3)),
          gone as (delete from group_members m where m.identity_id = $1 and m.from_provider and m.group_id not in (select id from given))
     insert into group_members (group_id, identity_id, from_provider) select id, $1, true from given on conflict do nothing`,
    [id, isAdmin, groups],
  );
}

const areEqual = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((one, index) => one === b[index]);
