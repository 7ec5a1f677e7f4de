import type { RequestHandler } from 'express';

import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';
import { allowedFunctionRoutes } from './allowed-functions';
import { containerRoutes } from './containers';
import { endpointRoutes } from './endpoints';
import { releaseOf } from './release';
import { submitRoutes } from './submit';
import { taskRoutes } from './tasks';

/**
 * What the funcX 1.0 clients call and the later ones do not, or in another shape. They share their paths, so these routes
 * are for requests of that release only; everything else of theirs is served by the general routes.
 */
export const releaseRoutes = (deps: ApiDeps): Route[] => [
  route({
    method: 'get',
    path: '/v2/version',
    summary: 'Versions that this release accepts',
    access: 'open',
    handle: () => ({ api: '1.0.0', min_sdk_version: '1.0.0', min_ep_version: '1.0.0' }),
  }),
  ...submitRoutes(deps),
  ...endpointRoutes(deps),
  ...allowedFunctionRoutes(deps),
  ...taskRoutes(deps),
  ...containerRoutes(),
];

export const onlyThisRelease = (): RequestHandler =>
  function requireRelease(req, _res, next) {
    next(releaseOf(req) ? undefined : 'route');
  };

/**
 * Agents 1.0.2 to 1.0.6 open connections before they become daemons and then use the same descriptor numbers for other
 * things: a connection that is kept alive makes their next request hang for ever. Their token requests do not name the release.
 */
export const closeConnections = (): RequestHandler =>
  function closeConnection(req, res, next) {
    if (releaseOf(req) || req.path === '/v2/oauth2/token') res.setHeader('connection', 'close');
    next();
  };
