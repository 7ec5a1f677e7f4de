import { randomUUID } from 'node:crypto';

import { TerminalError } from '../../contracts/errors';
import {
  createdTokenSchema,
  createTokenSchema,
  revokedTokenSchema,
  tokenListSchema,
  tokensQuerySchema,
  type TokenDocument,
} from '../../contracts/http/tokens';
import type { Identity } from '../../platform/access';
import { hashToken, makeApiToken } from '../../platform/secrets';
import { deleteApiToken, insertApiToken, listApiTokens, type ApiTokenRow } from '../../platform/store/api-tokens';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** API tokens of an identity: named, with scopes and an end. */

export function tokenRoutes({ db, identities, brokerUsers, config }: ApiDeps): Route[] {
  /** The ID of the caller, or for administrators the ID of the identity that they name. */
  async function ownerOf(identity: Identity, wanted: string | undefined): Promise<string> {
    if (wanted === undefined || wanted === identity.id || wanted === identity.name) return identity.id;
    if (!identity.isAdmin) throw new TerminalError('FORBIDDEN', 'only an administrator may see or revoke tokens of others');
    const row = await identities.find(wanted);
    if (!row) throw new TerminalError('NOT_FOUND', `identity ${wanted} does not exist; check the name or ID`);
    return row.id;
  }

  return [
    route({
      method: 'post',
      path: '/v1/tokens',
      summary: 'Creates an API token; only this response contains it',
      body: createTokenSchema,
      response: createdTokenSchema,
      status: 201,
      errors: ['FORBIDDEN', 'CONFLICT', 'LIMIT_EXCEEDED'],
      handle: async ({ identity, body, res }) => {
        res.setHeader('cache-control', 'no-store');
        const token = makeApiToken();
        const scopes = [...new Set(body.scopes)];
        const made = await insertApiToken(
          db,
          {
            id: randomUUID(),
            hash: hashToken(token),
            identityId: identity.id,
            name: body.name,
            scopes,
            expiresInS: body.expires_in,
          },
          config.FUNCX_MAX_API_TOKENS,
        );
        if (made === 'taken')
          throw new TerminalError('CONFLICT', `you have a token with the name ${body.name}; revoke it, or choose another name`);
        if (made === 'full')
          throw new TerminalError(
            'LIMIT_EXCEEDED',
            `you have ${config.FUNCX_MAX_API_TOKENS} API tokens, which is the limit; revoke those that you no longer need`,
            { retryAfterS: 60 },
          );
        return { ...documentOf(made), token };
      },
    }),
    route({
      method: 'get',
      path: '/v1/tokens',
      summary: 'Lists your API tokens, without the tokens themselves',
      query: tokensQuerySchema,
      response: tokenListSchema,
      errors: ['FORBIDDEN', 'NOT_FOUND'],
      handle: async ({ identity, query }) => ({
        tokens: (await listApiTokens(db, await ownerOf(identity, query.identity))).map(documentOf),
      }),
    }),
    route({
      method: 'delete',
      path: '/v1/tokens/:token',
      summary: 'Revokes an API token, by name or ID, with the broker credentials that were given for it',
      query: tokensQuerySchema,
      response: revokedTokenSchema,
      errors: ['FORBIDDEN', 'NOT_FOUND'],
      handle: async ({ identity, params, query }) => {
        const wanted = (params.token ?? '').slice(0, 200);
        const id = await deleteApiToken(db, await ownerOf(identity, query.identity), wanted);
        if (id === undefined)
          throw new TerminalError('NOT_FOUND', `API token ${wanted} does not exist; "funcx token list" shows your tokens`);
        identities.forget();
        await brokerUsers.revokeToken(id);
        return { token_id: id, revoked: true };
      },
    }),
  ];
}

function documentOf({ id, name, scopes, createdAt, expiresAt, lastUsedAt }: ApiTokenRow): TokenDocument {
  return {
    token_id: id,
    name,
    scopes,
    created_at: createdAt.toISOString(),
    expires_at: expiresAt.toISOString(),
    last_used_at: lastUsedAt?.toISOString() ?? null,
  };
}
