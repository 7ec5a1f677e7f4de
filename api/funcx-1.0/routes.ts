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
 * Routes for funcX 1.0 clients: paths that only they use, and paths where their format differs from later clients. `app.ts`
 * mounts these routes behind {@link onlyThisRelease}. The general routes serve every other request of a funcX 1.0 client.
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
  function onlyFuncX10(req, _res, next) {
    next(releaseOf(req) ? undefined : 'route');
  };

/**
 * Agents 1.0.2 to 1.0.6 reuse the descriptors of their connections when they become daemons; on a connection that is kept
 * alive, their next request would hang forever. A token request does not name the release, so the service closes the
 * connection after every token request.
 */
export const closeConnections = (): RequestHandler =>
  function closeConnection(req, res, next) {
    if (releaseOf(req) || req.path === '/v2/oauth2/token') res.setHeader('connection', 'close');
    next();
  };
