import { createHash, createHmac } from 'node:crypto';

import { z } from 'zod';

import { RetryableError, type TerminalError } from '../../contracts/errors';
import { userOf, type Claims, type ProviderUser } from './claims';
import { askProvider } from './discovery';
import { clientProof } from './introspection';
import type { IdentityProvider } from './provider';
import { unauthenticated } from './tokens';

/**
 * A login at the provider by authorization code with PKCE (RFC 7636). Verifier and nonce are derived from the state and a key of
 * the service, so that every replica can finish a login that another replica started, and nothing is stored.
 */
export interface CodeLogin {
  /** The address of the provider's login page for the browser. Throws UNAVAILABLE while the provider does not answer. */
  addressFor(state: string): Promise<string>;
  /** The user who logged in. Throws UNAUTHENTICATED, FORBIDDEN or UNAVAILABLE. */
  finish(state: string, code: string): Promise<ProviderUser>;
}

const tokensSchema = z.object({ id_token: z.string(), access_token: z.string() });
const refusalSchema = z.object({ error: z.string().max(200), error_description: z.string().max(1_000).optional() });
const ID_TOKEN_TOLERANCE_S = 30;

export interface CodeLoginOptions {
  redirectUri: string;
  scopes: string;
  /** A secret of the service, the same in every replica. */
  key: string;
}

/** Returns undefined if the configuration has no client at the provider. */
export function createCodeLogin(provider: IdentityProvider, options: CodeLoginOptions): CodeLogin | undefined {
  const { client, discover, verifier, claimSettings } = provider.parts;
  if (client === undefined) return undefined;
  const { issuer } = provider;
  const { redirectUri, scopes, key } = options;
  const derive = (purpose: string, state: string): string =>
    createHmac('sha256', key).update(`${purpose} ${state}`).digest('base64url');

  async function redeem(state: string, code: string): Promise<z.infer<typeof tokensSchema>> {
    const { token_endpoint: url } = await discover();
    if (url === undefined) throw lacks('token_endpoint');
    const proof = clientProof(client!); // checked above
    const form = {
      ...proof.form,
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: derive('verifier', state),
    };
    const response = await askProvider(
      issuer,
      url,
      { method: 'POST', headers: { ...proof.headers, accept: 'application/json' }, body: new URLSearchParams(form) },
      (refusal) => refusedBy(issuer, refusal),
    );
    const parsed = tokensSchema.safeParse(response);
    if (parsed.success) return parsed.data;
    throw new RetryableError(
      `the token response of ${issuer} lacks the ID token or the access token; the operator must have "openid" in FUNCX_OIDC_SCOPES`,
    );
  }

  /** Reads the userinfo endpoint, because many providers return groups and names only there. */
  async function readUserinfo(accessToken: string, subject: unknown): Promise<Claims> {
    const { userinfo_endpoint: url } = await discover();
    if (url === undefined) return {};
    const userinfo = z
      .record(z.string(), z.unknown())
      .parse(await askProvider(issuer, url, { headers: { authorization: `Bearer ${accessToken}` } }));
    if (userinfo.sub === subject) return userinfo;
    throw unauthenticated(`${issuer} sent the claims of another user; log in again`); // OpenID Connect Core, 5.3.2
  }

  const lacks = (endpoint: string): RetryableError => new RetryableError(`the provider ${issuer} has no ${endpoint}`);

  return {
    async addressFor(state) {
      const { authorization_endpoint: endpoint } = await discover();
      if (endpoint === undefined) throw lacks('authorization_endpoint');
      const url = new URL(endpoint);
      const parameters = {
        response_type: 'code',
        client_id: client.clientId,
        redirect_uri: redirectUri,
        scope: scopes,
        state,
        nonce: derive('nonce', state),
        code_challenge: createHash('sha256').update(derive('verifier', state)).digest('base64url'),
        code_challenge_method: 'S256',
      };
      for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
      return url.toString();
    },

    async finish(state, code) {
      const tokens = await redeem(state, code);
      const claims = await verifier.verify(tokens.id_token, {
        audience: [client.clientId],
        clockToleranceS: ID_TOKEN_TOLERANCE_S,
      });
      if (claims.nonce !== derive('nonce', state))
        throw unauthenticated(`the ID token of ${issuer} belongs to another login; log in again`);
      return userOf({ ...(await readUserinfo(tokens.access_token, claims.sub)), ...claims }, claimSettings);
    },
  };
}

export function refusedBy(issuer: string, refusal: unknown): TerminalError {
  const parsed = refusalSchema.safeParse(refusal);
  const reason = parsed.success ? (parsed.data.error_description ?? parsed.data.error) : 'the provider gave no reason';
  return unauthenticated(`${issuer} refused the login: ${reason}`);
}
