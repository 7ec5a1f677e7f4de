import type { Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import { isUuid } from '../../contracts/ids';
import {
  identitiesResponseSchema,
  identityQuerySchema,
  revokeFormSchema,
  revokeResponseSchema,
  tokenFormSchema,
  tokenResponseSchema,
  userinfoResponseSchema,
  type TokenResponse,
} from '../../contracts/http/globus';
import { describeName, IDENTITY_PROVIDER, TOKEN_LIFETIME_S, type IssuedToken } from '../../platform/identities';
import type { ApiDeps } from '../deps';
import { errorBody } from '../middleware/error-handler';
import { requestIdOf } from '../middleware/request-id';
import { ANSWERED, route, type Route } from '../route';
import { authenticateClient, readClientCredentials } from './client-credentials';
import { splitScopes } from './scopes';

/** The part of Globus Auth that client credentials need (protocol/globus-compute-4, section 3). */

export function authRoutes({ identities }: ApiDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/oauth2/token',
      summary: 'Access tokens for client credentials, one per resource server',
      access: 'open',
      bodyKind: 'form',
      body: tokenFormSchema,
      response: tokenResponseSchema,
      errors: ['UNAUTHENTICATED'],
      handle: async ({ req, res, body }) => {
        res.setHeader('cache-control', 'no-store');
        const client = await authenticateClient(identities, readClientCredentials(req.headers.authorization, body));
        if (!client) return refuseClient(res);
        return tokenResponse(await identities.issueTokens(client.id, splitScopes(body.scope)));
      },
    }),
    route({
      method: 'post',
      path: '/v2/oauth2/token/revoke',
      summary: 'Makes an access token worthless',
      access: 'open',
      bodyKind: 'form',
      body: revokeFormSchema,
      response: revokeResponseSchema,
      errors: ['UNAUTHENTICATED'],
      handle: async ({ req, res, body }) => {
        const client = await authenticateClient(identities, readClientCredentials(req.headers.authorization, {}));
        if (!client) return refuseClient(res);
        await identities.revokeToken(client.id, body.token);
        return { active: false };
      },
    }),
    route({
      method: 'get',
      path: '/v2/oauth2/userinfo',
      summary: 'Who the token belongs to',
      response: userinfoResponseSchema,
      handle: ({ identity }) => {
        const named = describeName(identity.name);
        return {
          sub: identity.id,
          name: identity.name,
          preferred_username: named.username,
          email: named.email,
          identity_set: [
            {
              sub: identity.id,
              ...named,
              organization: 'funcX',
              identity_provider: IDENTITY_PROVIDER.id,
              identity_provider_display_name: IDENTITY_PROVIDER.name,
              last_authentication: Math.floor(Date.now() / 1000),
            },
          ],
        };
      },
    }),
    route({
      method: 'get',
      path: '/v2/api/identities',
      summary: 'Names of identities, by id',
      query: identityQuerySchema,
      response: identitiesResponseSchema,
      handle: async ({ query }) => {
        const ids = query.ids.toLowerCase().split(',').filter(isUuid).slice(0, 100);
        const rows = await identities.findMany(ids);
        return { identities: rows.map((row) => ({ id: row.id, ...describeName(row.name) })) };
      },
    }),
  ];
}

/** Ours and the shape that the Auth clients parse in one. */
function refuseClient(res: Response): typeof ANSWERED {
  const detail = 'the client id or secret is wrong, or the identity was revoked';
  res.status(401).json({
    ...errorBody(new TerminalError('UNAUTHENTICATED', detail), requestIdOf(res)),
    error: 'invalid_client',
    error_description: detail,
    errors: [{ code: 'UNAUTHENTICATED', detail, title: 'Unauthorized', status: '401' }],
  });
  return ANSWERED;
}

function tokenResponse(issued: IssuedToken[]): TokenResponse {
  const [first, ...others] = issued.map((one) => ({
    access_token: one.token,
    scope: one.scope,
    expires_in: TOKEN_LIFETIME_S,
    token_type: 'Bearer' as const,
    resource_server: one.resourceServer,
  }));
  if (!first) throw new Error('no token was issued'); // splitScopes names at least one
  // Each token's scopes are its own; the clients look for every requested scope over all tokens.
  return { ...first, other_tokens: others };
}
