import type { RequestHandler, Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import { decide, type Identity } from '../../platform/access';
import type { Identities } from '../../platform/identities';

/** The token after `Bearer`; 401 without one. */
export function bearerToken(header: string | undefined): string {
  const match = /^Bearer +(\S+) *$/i.exec(header ?? '');
  if (!match?.[1]) {
    throw new TerminalError(
      'UNAUTHENTICATED',
      'the request has no access token; ask POST /v2/oauth2/token for one and send "Authorization: Bearer <token>"',
    );
  }
  return match[1];
}

/** Lets pass whoever has a valid token. Always 401 otherwise: only that makes the clients ask for a new one. */
export const authenticate = (identities: Identities): RequestHandler =>
  async function authenticateBearer(req, res, next) {
    const identity = await identities.authenticate(bearerToken(req.headers.authorization));
    if (!identity) {
      throw new TerminalError(
        'UNAUTHENTICATED',
        'the access token is unknown, expired or revoked; ask POST /v2/oauth2/token for a new one',
      );
    }
    res.locals.identity = identity;
    next();
  };

/** Lets pass administrators only. Stands after {@link authenticate}. */
export const requireAdmin = (): RequestHandler =>
  function requireAdministrator(_req, res, next) {
    const decision = decide(identityOf(res), 'manage', { kind: 'service' });
    if (decision !== 'allow') throw new TerminalError(decision.deny, 'only an administrator of the service may do this');
    next();
  };

export function identityOf(res: Response): Identity {
  const identity = res.locals.identity as Identity | undefined;
  if (!identity) throw new Error('the route is open, so there is no identity');
  return identity;
}
