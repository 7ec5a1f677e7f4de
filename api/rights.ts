import type { RequestHandler } from 'express';

import { TerminalError } from '../contracts/errors';
import type { TokenScope } from '../contracts/http/tokens';
import { identityOf } from './middleware/authenticate';
import type { RouteDescription } from './route';

/** Which scope of an API token each route needs. `none`: API tokens are refused; the caller must log in. */
export type NeededScope = TokenScope | 'none';

/** The first rule that matches counts. Other routes need `read` for GET, unless they are for administrators, and else `admin`. */
const RULES: readonly { methods: readonly string[]; path: RegExp; scope: NeededScope }[] = [
  { methods: ['post', 'delete', 'get'], path: /^\/v1\/tokens/, scope: 'none' },
  // Credentials that outlive a token: the identity of an invited agent, and the broker credentials of a Globus Compute endpoint.
  { methods: ['post'], path: /^\/v1\/invitations$/, scope: 'none' },
  { methods: ['post', 'put'], path: /^\/v3\/endpoints(\/:id)?$/, scope: 'none' },
  { methods: ['get', 'post'], path: /^\/v2\/(batch_status|get_containers)$/, scope: 'read' },
  { methods: ['post'], path: /\/(submit|retry|cancel|run|resume|release|validate|validate_run)$/, scope: 'submit' },
  { methods: ['post', 'put', 'delete'], path: /^\/(v2|v3)\/functions(\/:id)?$/, scope: 'submit' },
  { methods: ['post'], path: /^\/v1\/submissions$/, scope: 'submit' },
  { methods: ['post', 'put', 'delete'], path: /^\/(flows|runs)(\/:id)?$/, scope: 'submit' },
  { methods: ['post', 'delete'], path: /^\/v1\/schedules(\/:id(\/(backfill|pause|trigger))?)?$/, scope: 'submit' },
  { methods: ['post', 'put', 'delete'], path: /^\/v[123]\/endpoints(\/|$)/, scope: 'endpoints' },
];

export function scopeFor({ method, path, access }: Pick<RouteDescription, 'method' | 'path' | 'access'>): NeededScope {
  const rule = RULES.find((one) => one.methods.includes(method) && one.path.test(path));
  if (rule) return rule.scope;
  return method === 'get' && access !== 'admin' ? 'read' : 'admin';
}

/** Refuses API tokens without the scope that the route needs. Use after `authenticate`. */
export const requireTokenScope = (route: RouteDescription): RequestHandler => {
  const needed = scopeFor(route);
  return function requireScopeOfToken(_req, res, next) {
    const scopes = identityOf(res).token?.scopes;
    if (scopes === undefined) return next(); // not an API token
    if (needed === 'none')
      throw new TerminalError('FORBIDDEN', 'an API token cannot do this; log in, or use the id and secret of the identity');
    if (!scopes.has(needed))
      throw new TerminalError(
        'FORBIDDEN',
        `the API token has the scopes ${[...scopes].join(', ')}, but this needs "${needed}"; create a token with that scope`,
      );
    next();
  };
};
