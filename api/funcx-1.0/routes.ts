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
 * Routes that only funcX 1.0 clients use, or use in another format than later clients. Since paths overlap, these routes
 * match only requests of funcX 1.0; the general routes serve its other requests.
 */
export const releaseRoutes = (deps: ApiDeps): Route[] => [
  route({
    method: 'get',
    path: '/v2/version',
    summary: 'Returns the versions that funcX 1.0 clients accept',
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
 * Agents 1.0.2 to 1.0.6 reuse the descriptors of their connections when they become daemons; on a connection that is kept
 * alive their next request would hang forever. Token requests do not name the release, so they close as well.
 */
export const closeConnections = (): RequestHandler =>
  function closeConnection(req, res, next) {
    if (releaseOf(req) || req.path === '/v2/oauth2/token') res.setHeader('connection', 'close');
    next();
  };
