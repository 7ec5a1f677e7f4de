import type { Database } from './database';

/** Groups of identities, with which functions and endpoints can be shared. */

export interface GroupRow {
  id: string;
  name: string;
  ownerId: string;
  /** Names of the members. */
  members: string[];
  /** The group of the OpenID Connect provider whose users are members. */
  providerGroup: string | null;
}

const SELECT_GROUP = `
  select g.id, g.name, g.owner_id as "ownerId", g.provider_group as "providerGroup",
         array(select i.name from group_members m join identities i on i.id = m.identity_id
                where m.group_id = g.id order by i.name) as members
    from groups g`;

/** Undefined when the name is taken. */
export async function insertGroup(
  db: Database,
  id: string,
  name: string,
  ownerId: string,
  providerGroup: string | null = null,
): Promise<GroupRow | undefined> {
  const { rowCount } = await db.query(
    'insert into groups (id, name, owner_id, provider_group) values ($1, $2, $3, $4) on conflict (name) do nothing',
    [id, name, ownerId, providerGroup],
  );
  return rowCount === 1 ? { id, name, ownerId, members: [], providerGroup } : undefined;
}

export async function findGroup(db: Database, nameOrId: string): Promise<GroupRow | undefined> {
  const { rows } = await db.query<GroupRow>(
    `${SELECT_GROUP} where g.name = $1 or g.id::text = lower($1) order by g.name = $1 desc limit 1`,
    [nameOrId],
  );
  return rows[0];
}

/** Groups that the identity owns or is a member of; without `identityId`, all groups. */
export async function listGroups(db: Database, identityId?: string): Promise<GroupRow[]> {
  const { rows } = await db.query<GroupRow>(
    `${SELECT_GROUP} where $1::uuid is null or g.owner_id = $1
        or exists (select 1 from group_members m where m.group_id = g.id and m.identity_id = $1) order by g.name`,
    [identityId ?? null],
  );
  return rows;
}

export async function addMember(db: Database, groupId: string, identityId: string): Promise<void> {
  await db.query('insert into group_members (group_id, identity_id) values ($1, $2) on conflict do nothing', [
    groupId,
    identityId,
  ]);
}

export async function removeMember(db: Database, groupId: string, identityId: string): Promise<boolean> {
  const { rowCount } = await db.query('delete from group_members where group_id = $1 and identity_id = $2', [
    groupId,
    identityId,
  ]);
  return rowCount === 1;
}
