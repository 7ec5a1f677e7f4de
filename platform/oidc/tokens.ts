import { createRemoteJWKSet, customFetch, decodeProtectedHeader, errors, jwtVerify, type JWTVerifyGetKey } from 'jose';

import { ensureError, RetryableError, TerminalError } from '../../contracts/errors';
import type { Claims } from './claims';
import { providerAway, PROVIDER_TIMEOUT_MS, type Discover } from './discovery';

/** Checks signed tokens of a provider against its published keys (JWKS). The error for an invalid token says what is wrong. */

/** Signatures that only the provider can create. Excludes `none`, and HS256, whose key a client would know as well. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
/** Keys are read again after this time, and when a token names an unknown key. */
const KEYS_VALID_MS = 600_000;
/** Tokens with unknown keys cause at most one request to the provider in this time. */
const KEYS_PAUSE_MS = 5_000;
/** Values of Keycloak's claim `typ` for tokens that must not be used as access tokens. */
const NOT_FOR_SERVICES = new Set(['ID', 'Refresh', 'Offline', 'Logout']);

export interface TokenExpectations {
  audience: readonly string[];
  clockToleranceS: number;
}

export interface TokenVerifier {
  /** The claims of a valid token. Throws UNAUTHENTICATED, or UNAVAILABLE while the provider's keys cannot be read. */
  verify(token: string, expected: TokenExpectations): Promise<Claims & { exp: number }>;
}

export function createTokenVerifier(issuer: string, discover: Discover, keysPauseMs = KEYS_PAUSE_MS): TokenVerifier {
  let keys: { uri: string; getKey: JWTVerifyGetKey } | undefined;

  async function readKeys(): Promise<JWTVerifyGetKey> {
    const { jwks_uri: uri } = await discover();
    if (keys?.uri !== uri) {
      const options = { timeoutDuration: PROVIDER_TIMEOUT_MS, cacheMaxAge: KEYS_VALID_MS, cooldownDuration: keysPauseMs };
      keys = { uri, getKey: createRemoteJWKSet(new URL(uri), { ...options, [customFetch]: fetchKeys }) };
    }
    return keys.getKey;
  }

  /** Fetches the keys. Throws UNAVAILABLE on failure, so that an unreachable provider does not look like an invalid token. */
  async function fetchKeys(...args: Parameters<typeof fetch>): Promise<Response> {
    try {
      const response = await fetch(...args);
      if (response.status === 200) return response;
      throw new Error(`status ${response.status} from ${response.url}`);
    } catch (error) {
      throw providerAway(issuer, error);
    }
  }

  return {
    async verify(token, { audience, clockToleranceS }) {
      refuseAtOnce(token, issuer);
      const getKey = await readKeys();
      try {
        const { payload } = await jwtVerify(token, getKey, {
          issuer,
          audience: [...audience],
          algorithms: ALGORITHMS,
          clockTolerance: clockToleranceS,
          requiredClaims: ['exp', 'sub'],
        });
        return { ...payload, exp: payload.exp ?? 0 }; // `exp` is required above
      } catch (error) {
        throw refusal(ensureError(error), issuer, audience);
      }
    },
  };
}

/** Refuses tokens that are invalid without looking at a key, so that they need not wait for an unreachable provider. */
function refuseAtOnce(token: string, issuer: string): void {
  let header: { alg?: string };
  try {
    header = decodeProtectedHeader(token);
  } catch (error) {
    throw unauthenticated('the access token is not a valid JWT', error);
  }
  if (header.alg === undefined || !ALGORITHMS.includes(header.alg)) throw wrongAlgorithm(issuer);
}

/** Refuses ID and refresh tokens, which the same keys sign, and tokens that are bound to a key, which need a proof of the key. */
export function refuseOtherKinds(claims: Claims, issuer: string): void {
  if (typeof claims.typ === 'string' && NOT_FOR_SERVICES.has(claims.typ))
    throw unauthenticated(`the token of ${issuer} is of the kind ${claims.typ}; send an access token`);
  if (claims.cnf !== undefined)
    throw unauthenticated(`the access token of ${issuer} is bound to a key; this service takes bearer tokens only`);
}

export const unauthenticated = (message: string, cause?: unknown): TerminalError =>
  new TerminalError('UNAUTHENTICATED', message, { cause });

const wrongAlgorithm = (issuer: string, cause?: unknown): TerminalError =>
  unauthenticated(`the access token has no signature that the provider ${issuer} could have made (alg)`, cause);

function refusal(error: Error, issuer: string, audience: readonly string[]): Error {
  if (error instanceof RetryableError) return error;
  if (error instanceof errors.JWTExpired)
    return unauthenticated(`the access token of ${issuer} has expired; get a new one, such as with "funcx login"`, error);
  if (error instanceof errors.JWTClaimValidationFailed) return unauthenticated(ofClaim(error, issuer, audience), error);
  if (error instanceof errors.JWKSNoMatchingKey)
    return unauthenticated(`the access token is signed by a key that ${issuer} does not publish`, error);
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return unauthenticated(`the signature of the access token is wrong: ${issuer} did not sign it`, error);
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) return wrongAlgorithm(issuer, error);
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid || error instanceof errors.JWKInvalid)
    return providerAway(issuer, error);
  return unauthenticated('the access token is not a valid JWT', error);
}

function ofClaim({ claim, reason }: errors.JWTClaimValidationFailed, issuer: string, audience: readonly string[]): string {
  if (reason === 'missing') return `the access token of ${issuer} has no claim "${claim}"`;
  if (claim === 'aud')
    return `the access token of ${issuer} is for another service; ask the provider for one with the audience ${audience.join(' or ')}`;
  if (claim === 'iss') return `the access token is of another provider; this service takes tokens of ${issuer}`;
  if (claim === 'nbf') return `the access token of ${issuer} is not valid yet; check the clocks of provider and service`;
  return `the claim "${claim}" of the access token of ${issuer} is wrong`;
}
