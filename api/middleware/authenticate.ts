import type { RequestHandler, Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import { decide, isTokenFor, type Identity } from '../../platform/access';
import type { Identities } from '../../platform/identities';

/** The bearer token of an Authorization header; throws UNAUTHENTICATED if the header has none. `advice`: where to get one. */
export function bearerToken(
  header: string | undefined,
  advice = 'get one from POST /v2/oauth2/token and send "Authorization: Bearer <token>"',
): string {
  const match = /^Bearer +(\S+) *$/i.exec(header ?? '');
  if (!match?.[1]) {
    throw new TerminalError('UNAUTHENTICATED', `the request has no access token; ${advice}`);
  }
  return match[1];
}

/** Requires a valid token. Responds with 401 otherwise, because only a 401 makes the clients request a new token. */
export const authenticate = (identities: Identities): RequestHandler =>
  async function authenticateBearer(req, res, next) {
    const identity = await identities.authenticate(bearerToken(req.headers.authorization));
    if (!identity) {
      throw new TerminalError(
        'UNAUTHENTICATED',
        'the access token is unknown, expired or revoked; get a new one from POST /v2/oauth2/token',
      );
    }
    res.locals.identity = identity;
    next();
  };

/** Requires a token for one of these resource servers. Use after {@link authenticate}. */
export const requireScope = (allowed: readonly string[]): RequestHandler =>
  function requireResourceServer(_req, res, next) {
    const identity = identityOf(res);
    if (!isTokenFor(identity, ...allowed)) {
      throw new TerminalError(
        'FORBIDDEN',
        `the access token is for ${identity.resourceServer ?? 'no service'}, but this route needs a token for ${allowed.join(' or ')}; request its scope at POST /v2/oauth2/token`,
      );
    }
    next();
  };

/** Refuses the identities of agents. Use after {@link authenticate}. */
export const refuseAgents = (): RequestHandler =>
  function refuseAgentIdentities(_req, res, next) {
    const { agentOf } = identityOf(res);
    if (agentOf) {
      throw new TerminalError(
        'FORBIDDEN',
        `this identity may only serve endpoint ${agentOf.endpointId}; use an identity of your own for everything else`,
      );
    }
    next();
  };

/** Requires an administrator. Use after {@link authenticate}. */
export const requireAdmin = (): RequestHandler =>
  function requireAdministrator(_req, res, next) {
    const decision = decide(identityOf(res), 'manage', { kind: 'service' });
    if (decision !== 'allow') throw new TerminalError(decision.deny, 'only an administrator of the service may do this');
    next();
  };

export function identityOf(res: Response): Identity {
  const identity = res.locals.identity as Identity | undefined;
  if (!identity) throw new Error('the request was not authenticated');
  return identity;
}
