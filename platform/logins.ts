import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

import { hashToken } from './secrets';
import type { Database } from './store/database';

/** Interactive logins: codes that a person copies, and the refresh tokens issued for them. Both are stored as hashes. */

const CODE_LIFETIME_S = 600;
/** A client whose refresh token is unused for this long must log in again. */
const REFRESH_LIFETIME_S = 180 * 86_400;
/** How long a refresh token stays valid after it was used. */
const ROTATED_LIFETIME_S = 86_400;

export interface LoginRequest {
  clientId: string;
  redirectUri: string;
  /** PKCE, method S256. */
  challenge: string;
  scope: string;
}

export interface RefreshGrant {
  identityId: string;
  scope: string;
  resourceServer: string;
  /** When the user must log in again; null if the login ends only after disuse. */
  loginEndsAt: Date | null;
}

export interface Logins {
  /** Issues a code that can be used once, by a client that knows the PKCE verifier. */
  issueCode(identityId: string, request: LoginRequest): Promise<string>;
  /** The identity and scope of the login; undefined if the code is unknown, used, expired or issued to another client. */
  redeemCode(
    code: string,
    proof: { clientId: string; redirectUri: string; verifier: string },
  ): Promise<Omit<RefreshGrant, 'resourceServer'> | undefined>;
  /** Issues one refresh token per resource server. The tokens are not valid beyond the end of the login. */
  issueRefreshTokens(
    identityId: string,
    wanted: readonly Pick<RefreshGrant, 'scope' | 'resourceServer'>[],
    loginEndsAt: Date | null,
  ): Promise<string[]>;
  /** Undefined if unknown, expired or revoked. Stays valid for a day, because a client may fail to store its new token. */
  useRefreshToken(token: string): Promise<RefreshGrant | undefined>;
  /** Revokes an access or refresh token. Whoever has the token may revoke it. False when the token is unknown. */
  revoke(token: string): Promise<boolean>;
}

export function createLogins(db: Database, providerLoginDays: number): Logins {
  return {
    async issueCode(identityId, { clientId, redirectUri, challenge, scope }) {
      const code = randomBytes(24).toString('base64url');
      await db.query(
        `with over as (delete from login_codes where expires_at < now())
         insert into login_codes (hash, identity_id, client_id, redirect_uri, challenge, scope, expires_at)
         values ($1, $2, $3, $4, $5, $6, now() + $7::double precision * interval '1 second')`,
        [hashToken(code), identityId, clientId, redirectUri, challenge, scope, CODE_LIFETIME_S],
      );
      return code;
    },

    async redeemCode(code, { clientId, redirectUri, verifier }) {
      // The code is consumed even if the verifier is wrong.
      const { rows } = await db.query<{ identityId: string; scope: string; challenge: string; loginEndsAt: Date | null }>(
        `delete from login_codes c using identities i
          where c.hash = $1 and c.client_id = $2 and c.redirect_uri = $3 and c.expires_at > now()
            and i.id = c.identity_id and i.revoked_at is null
        returning c.identity_id as "identityId", c.scope, c.challenge,
                  case when i.issuer is not null then now() + $4::double precision * interval '1 day' end as "loginEndsAt"`,
        [hashToken(code), clientId, redirectUri, providerLoginDays],
      );
      const row = rows[0];
      if (!row || !isChallengeOf(verifier, row.challenge)) return undefined;
      const { identityId, scope, loginEndsAt } = row;
      return { identityId, scope, loginEndsAt };
    },

    async issueRefreshTokens(identityId, wanted, loginEndsAt) {
      const tokens = wanted.map(() => `fxr_${randomBytes(32).toString('base64url')}`);
      await db.query(
        `insert into access_tokens (hash, identity_id, kind, scope, resource_server, expires_at, login_ends_at)
         select n.hash, $2, 'refresh', n.scope, n.server, least(now() + $5::double precision * interval '1 second', $6), $6
           from unnest($1::bytea[], $3::text[], $4::text[]) as n (hash, scope, server)`,
        [
          tokens.map((token) => hashToken(token)),
          identityId,
          wanted.map(({ scope }) => scope),
          wanted.map(({ resourceServer }) => resourceServer),
          REFRESH_LIFETIME_S,
          loginEndsAt,
        ],
      );
      return tokens;
    },

    async useRefreshToken(token) {
      const { rows } = await db.query<RefreshGrant>(
        `update access_tokens t set expires_at = least(t.expires_at, now() + $2::double precision * interval '1 second') from identities i
          where t.hash = $1 and t.kind = 'refresh' and t.expires_at > now() and i.id = t.identity_id and i.revoked_at is null
        returning t.identity_id as "identityId", t.scope, t.resource_server as "resourceServer", t.login_ends_at as "loginEndsAt"`,
        [hashToken(token), ROTATED_LIFETIME_S],
      );
      return rows[0];
    },

    async revoke(token) {
      const { rowCount } = await db.query('delete from access_tokens where hash = $1', [hashToken(token)]);
      return rowCount === 1;
    },
  };
}

function isChallengeOf(verifier: string, challenge: string): boolean {
  const made = Buffer.from(createHash('sha256').update(verifier).digest('base64url'));
  const given = Buffer.from(challenge.replace(/=+$/, ''));
  return made.length === given.length && timingSafeEqual(made, given);
}
