import { randomUUID } from 'node:crypto';

import type { z } from 'zod';

import { TerminalError } from '../../contracts/errors';
import { createGroupSchema, groupListSchema, groupMemberSchema, groupSchema } from '../../contracts/http/v1-identities';
import { decide, type Action, type Identity } from '../../platform/access';
import type { IdentityRow } from '../../platform/identities';
import { addMember, findGroup, insertGroup, listGroups, removeMember, type GroupRow } from '../../platform/store/groups';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** Groups of identities, for sharing functions and endpoints. */

export function groupRoutes({ db, identities }: ApiDeps): Route[] {
  async function requireGroup(identity: Identity, action: Action, nameOrId: string): Promise<GroupRow> {
    const group = await findGroup(db, nameOrId);
    const decision = group ? decide(identity, action, { kind: 'group', ownerId: group.ownerId }) : { deny: 'NOT_FOUND' as const };
    if (!group || decision !== 'allow')
      throw new TerminalError('NOT_FOUND', `you own no group ${nameOrId.slice(0, 200)}; check the name or ID`);
    return group;
  }

  async function requireIdentity(nameOrId: string): Promise<IdentityRow> {
    const row = await identities.find(nameOrId);
    if (!row) throw new TerminalError('NOT_FOUND', `identity ${nameOrId.slice(0, 200)} does not exist; check the name or ID`);
    return row;
  }

  return [
    route({
      method: 'post',
      path: '/v1/groups',
      summary: 'Creates a group that you own',
      body: createGroupSchema,
      response: groupSchema,
      status: 201,
      errors: ['CONFLICT'],
      handle: async ({ identity, body }) => {
        const group = await insertGroup(db, randomUUID(), body.name, identity.id, body.provider_group);
        if (!group) throw new TerminalError('CONFLICT', `a group with the name ${body.name} already exists; choose another name`);
        if (body.provider_group !== undefined) identities.forget(); // its users are members from now on
        return groupDocument(group);
      },
    }),
    route({
      method: 'get',
      path: '/v1/groups',
      summary: 'Lists the groups that you own or are a member of; for administrators, all groups',
      response: groupListSchema,
      handle: async ({ identity }) => ({
        groups: (await listGroups(db, identity.isAdmin ? undefined : identity.id)).map(groupDocument),
      }),
    }),
    route({
      method: 'post',
      path: '/v1/groups/:group/members',
      summary: 'Adds an identity, by name or ID, to a group',
      body: groupMemberSchema,
      response: groupSchema,
      errors: ['NOT_FOUND'],
      handle: async ({ identity, params, body }) => {
        const group = await requireGroup(identity, 'manage', params.group ?? '');
        const member = await requireIdentity(body.identity);
        await addMember(db, group.id, member.id);
        identities.forget();
        return groupDocument((await findGroup(db, group.id)) ?? group);
      },
    }),
    route({
      method: 'delete',
      path: '/v1/groups/:group/members/:identity',
      summary: 'Removes an identity from a group',
      response: groupSchema,
      errors: ['NOT_FOUND'],
      handle: async ({ identity, params }) => {
        const group = await requireGroup(identity, 'manage', params.group ?? '');
        const member = await requireIdentity(params.identity ?? '');
        if (!(await removeMember(db, group.id, member.id))) {
          throw new TerminalError('NOT_FOUND', `${member.name} is not a member of group ${group.name}`);
        }
        identities.forget();
        return groupDocument((await findGroup(db, group.id)) ?? group);
      },
    }),
  ];
}

function groupDocument(group: GroupRow): z.infer<typeof groupSchema> {
  const { id, name, ownerId, members, providerGroup } = group;
  return { id, name, owner_id: ownerId, members, provider_group: providerGroup };
}
