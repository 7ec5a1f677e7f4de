import type { Request, Response } from 'express';
import type { z } from 'zod';

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
import { createLogins } from '../../platform/logins';
import type { ApiDeps } from '../deps';
import { errorBody } from '../middleware/error-handler';
import { requestIdOf } from '../middleware/request-id';
import { ANSWERED, route, type Route } from '../route';
import { authenticateClient, readClientCredentials, type ClientCredentials } from './client-credentials';
import { createGuessLimit } from './guess-limit';
import { loginRoutes } from './login';
import { createProviderLogin } from './provider-login';
import { AUTH_RESOURCE_SERVER, COMPUTE_RESOURCE_SERVER, splitScopes } from './scopes';

/** The subset of Globus Auth that the clients use: globus-sdk 3 and 4, `globus_sdk/services/auth/client/`. */

type AuthenticatedClient = Awaited<ReturnType<typeof authenticateClient>>;
type CodeForm = Extract<z.output<typeof tokenFormSchema>, { grant_type: 'authorization_code' }>;

export function authRoutes({ db, identities, config, identityProvider }: ApiDeps): Route[] {
  const logins = createLogins(db, config.FUNCX_OIDC_LOGIN_DAYS);
  const providerLogin = createProviderLogin({ config, identityProvider, identities, logins });
  const guesses = createGuessLimit();

  /** Exchanges a login code for tokens. Without refresh tokens, the clients would require a login at every start. */
  async function exchangeCode(res: Response, form: CodeForm): Promise<TokenResponse | typeof ANSWERED> {
    const login = await logins.redeemCode(form.code, {
      clientId: form.client_id,
      redirectUri: form.redirect_uri,
      verifier: form.code_verifier,
    });
    if (!login) return refuseGrant(res, 'the code is wrong, was already used or has expired; log in again for a new code');
    const issued = await identities.issueTokens(login.identityId, splitScopes(login.scope));
    const refreshTokens = await logins.issueRefreshTokens(login.identityId, issued, login.loginEndsAt);
    return tokenResponse(issued.map((one, index) => ({ ...one, refreshToken: refreshTokens[index] })));
  }

  async function refresh(res: Response, token: string): Promise<TokenResponse | typeof ANSWERED> {
    const grant = await logins.useRefreshToken(token);
    if (!grant) return refuseGrant(res, 'the refresh token is unknown, expired or revoked; log in again');
    const issued = await identities.issueTokens(grant.identityId, [grant]);
    const [rotated] = await logins.issueRefreshTokens(grant.identityId, [grant], grant.loginEndsAt);
    return tokenResponse(issued.map((one) => ({ ...one, refreshToken: rotated })));
  }

  async function authenticate(
    req: Request,
    credentials: ClientCredentials | undefined,
  ): Promise<AuthenticatedClient | undefined> {
    const [address, name] = [req.socket.remoteAddress ?? '', credentials?.id.toLowerCase() ?? ''];
    guesses.check(address, name);
    const client = await authenticateClient(identities, credentials);
    if (client) guesses.succeeded(address, name);
    else guesses.failed(address, name);
    return client;
  }

  return [
    ...loginRoutes(identities, logins, guesses, providerLogin.offerLogin),
    ...providerLogin.routes,
    route({
      method: 'post',
      path: '/v2/oauth2/token',
      summary: 'Issues access tokens, one per resource server, for client credentials, a login code or a refresh token',
      access: 'open',
      bodyKind: 'form',
      body: tokenFormSchema,
      response: tokenResponseSchema,
      errors: ['UNAUTHENTICATED', 'INVALID_SCOPE'],
      handle: async ({ req, res, body }) => {
        res.setHeader('cache-control', 'no-store');
        if (body.grant_type === 'authorization_code') return exchangeCode(res, body);
        if (body.grant_type === 'refresh_token') return refresh(res, body.refresh_token);
        const client = await authenticate(req, readClientCredentials(req.headers.authorization, body));
        if (!client) return refuseClient(res);
        return tokenResponse(await identities.issueTokens(client.id, splitScopes(body.scope)));
      },
    }),
    route({
      method: 'post',
      path: '/v2/oauth2/token/revoke',
      summary: 'Revokes an access token or a refresh token',
      access: 'open',
      bodyKind: 'form',
      body: revokeFormSchema,
      response: revokeResponseSchema,
      errors: ['UNAUTHENTICATED'],
      handle: async ({ req, res, body }) => {
        // A client of an interactive login has no secret; possession of the token is the proof.
        if (req.headers.authorization === undefined && body.client_id !== undefined) {
          if (await logins.revoke(body.token)) identities.forget();
          return { active: false };
        }
        const client = await authenticate(req, readClientCredentials(req.headers.authorization, {}));
        if (!client) return refuseClient(res);
        await identities.revokeToken(client.id, body.token);
        return { active: false };
      },
    }),
    route({
      method: 'get',
      path: '/v2/oauth2/userinfo',
      resourceServers: [AUTH_RESOURCE_SERVER, COMPUTE_RESOURCE_SERVER],
      summary: 'Returns the identity of the token',
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
      resourceServers: [AUTH_RESOURCE_SERVER, COMPUTE_RESOURCE_SERVER],
      summary: 'Returns the names of identities, by ID',
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

const refuseClient = (res: Response): typeof ANSWERED =>
  refuse(res, 'invalid_client', 'the client ID or secret is wrong, or the identity was revoked');
const refuseGrant = (res: Response, detail: string): typeof ANSWERED => refuse(res, 'invalid_grant', detail);

/** Our error fields together with the fields that the Globus Auth clients parse. */
function refuse(res: Response, error: string, detail: string): typeof ANSWERED {
  res.status(401).json({
    ...errorBody(new TerminalError('UNAUTHENTICATED', detail), requestIdOf(res)),
    error,
    error_description: detail,
    errors: [{ code: 'UNAUTHENTICATED', detail, title: 'Unauthorized', status: '401' }],
  });
  return ANSWERED;
}

function tokenResponse(issued: (IssuedToken & { refreshToken?: string })[]): TokenResponse {
  const [first, ...others] = issued.map((one) => ({
    access_token: one.token,
    scope: one.scope,
    expires_in: TOKEN_LIFETIME_S,
    token_type: 'Bearer' as const,
    resource_server: one.resourceServer,
    refresh_token: one.refreshToken,
  }));
  if (!first) throw new Error('no token was issued'); // splitScopes returns at least one.
  // The clients search all tokens for each requested scope.
  return { ...first, other_tokens: others };
}
