import { TerminalError } from '../../contracts/errors';
import {
  createdIdentitySchema,
  createIdentitySchema,
  identityListSchema,
  revokedIdentitySchema,
} from '../../contracts/http/v1-identities';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** Routes with which administrators create and revoke identities. */

export function identityRoutes({ identities, brokerUsers }: ApiDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v1/identities',
      summary: 'Creates an identity; only this response contains its secret',
      access: 'admin',
      body: createIdentitySchema,
      response: createdIdentitySchema,
      status: 201,
      errors: ['CONFLICT'],
      handle: async ({ body, res }) => {
        res.setHeader('cache-control', 'no-store');
        const made = await identities.create({
          name: body.name,
          isAdmin: body.is_admin,
          id: body.client_id,
          secret: body.client_secret,
        });
        return { client_id: made.id, client_secret: made.secret, name: made.name };
      },
    }),
    route({
      method: 'get',
      path: '/v1/identities',
      summary: 'Lists all identities',
      access: 'admin',
      response: identityListSchema,
      handle: async () => ({
        identities: (await identities.list()).map((row) => ({
          client_id: row.id,
          name: row.name,
          is_admin: row.isAdmin,
          created_at: row.createdAt.toISOString(),
          revoked_at: row.revokedAt?.toISOString() ?? null,
          issuer: row.issuer,
        })),
      }),
    }),
    route({
      method: 'delete',
      path: '/v1/identities/:identity',
      summary: 'Revokes an identity, by name or ID, with its tokens and broker credentials',
      access: 'admin',
      response: revokedIdentitySchema,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async ({ params, identity }) => {
        const wanted = params.identity ?? '';
        const row = await identities.find(wanted);
        if (!row) throw new TerminalError('NOT_FOUND', `identity ${wanted.slice(0, 200)} does not exist; check the name or ID`);
        if (row.id === identity.id)
          throw new TerminalError('CONFLICT', 'you cannot revoke the identity that you are using; ask another administrator');
        await identities.revoke(row.id);
        await brokerUsers.revokeOwner(row.id);
        // The broker user of an agent belongs to the owner of its endpoint.
        if (row.agentEndpointId !== null) await brokerUsers.revokeEndpoint(row.agentEndpointId);
        return { client_id: row.id, revoked: true };
      },
    }),
  ];
}
