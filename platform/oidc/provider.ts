import type { Config } from '../config';
import { userOf, type ClaimSettings, type ProviderUser } from './claims';
import { createDiscovery, type Discover } from './discovery';
import { introspect, type ClientOfProvider } from './introspection';
import { createTokenVerifier, refuseOtherKinds, type TokenVerifier } from './tokens';

/** The configured OpenID Connect provider, whose users may use the service. */
export interface IdentityProvider {
  readonly issuer: string;
  /** Whether an access token may be from the provider. */
  mayBeOwn(token: string): boolean;
  /** Throws UNAUTHENTICATED with the reason, FORBIDDEN if the user may not use the service, UNAVAILABLE without an answer. */
  userOfToken(token: string): Promise<{ user: ProviderUser; expiresAtMs: number }>;
  readonly parts: ProviderParts;
}

export interface ProviderParts {
  client: ClientOfProvider | undefined;
  claimSettings: ClaimSettings;
  discover: Discover;
  verifier: TokenVerifier;
}

const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
/** Tokens that the service issues itself: `fx_`, `fxr_`, `fxt_`. */
const ISSUED_HERE = /^fx[rt]?_/;

/** Undefined without FUNCX_OIDC_ISSUER. */
export function createIdentityProvider(config: Config, options: { keysPauseMs?: number } = {}): IdentityProvider | undefined {
  const { FUNCX_OIDC_ISSUER: issuer, FUNCX_OIDC_AUDIENCE: audience, FUNCX_OIDC_CLOCK_TOLERANCE_S: clockToleranceS } = config;
  if (issuer === undefined) return undefined;
  const clientId = config.FUNCX_OIDC_CLIENT_ID;
  const client = clientId === undefined ? undefined : { issuer, clientId, clientSecret: config.FUNCX_OIDC_CLIENT_SECRET };
  const claimSettings: ClaimSettings = {
    issuer,
    nameClaim: config.FUNCX_OIDC_NAME_CLAIM,
    groupsClaims: config.FUNCX_OIDC_GROUPS_CLAIM,
    adminGroup: config.FUNCX_OIDC_ADMIN_GROUP,
    allowedGroups: config.FUNCX_OIDC_ALLOWED_GROUPS,
  };
  const discover = createDiscovery(issuer);
  const verifier = createTokenVerifier(issuer, discover, options.keysPauseMs);
  const asks = config.FUNCX_OIDC_INTROSPECTION === '1' ? client : undefined;

  return {
    issuer,
    mayBeOwn: (token) => !ISSUED_HERE.test(token) && (asks !== undefined || JWT.test(token)),

    async userOfToken(token) {
      const claims =
        asks !== undefined && !JWT.test(token)
          ? await introspect(asks, discover, token, audience)
          : await verifier.verify(token, { audience, clockToleranceS });
      refuseOtherKinds(claims, issuer);
      return { user: userOf(claims, claimSettings), expiresAtMs: claims.exp * 1_000 };
    },

    parts: { client, claimSettings, discover, verifier },
  };
}
