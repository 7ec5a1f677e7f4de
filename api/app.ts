import express, { type Express, type Request, type RequestHandler } from 'express';

import type { Accepted, AcceptRequest } from '../accepting/accept-request';
import type { Identity } from '../platform/access';

import { authRoutes } from './auth/routes';
import type { ApiDeps } from './deps';
import { flowsErrors, speaksFlows } from './flows/errors';
import { flowsRoutes } from './flows/routes';
import { releaseErrors } from './funcx-1.0/errors';
import { closeConnections, onlyThisRelease, releaseRoutes } from './funcx-1.0/routes';
import { globusRoutes } from './globus/routes';
import { acceptAbsoluteForm } from './middleware/absolute-form';
import { authenticate, identityOf, refuseAgents, requireAdmin, requireScope } from './middleware/authenticate';
import { closeAtStop } from './middleware/close-at-stop';
import { errorHandler, unknownRoute } from './middleware/error-handler';
import { limitBodiesInFlight } from './middleware/limit-bodies-in-flight';
import { createLargeRequests } from './middleware/large-requests';
import { bodyReader, type BodyLimits } from './middleware/read-body';
import { secureResponses } from './middleware/secure-responses';
import { assignRequestId, requestIdOf } from './middleware/request-id';
import { measureRequests } from './middleware/measure-requests';
import { openApiRoute } from './openapi';
import { requireTokenScope } from './rights';
import { ANSWERED, type Route, type RouteAccess } from './route';
import { serviceRoutes } from './service-routes';
import { allowTemporalUi } from './v1/codec';
import { v1Routes } from './v1/routes';

/** The identity on open routes and on routes with an attempt token. It owns nothing and has no permissions. */
const NOBODY: Identity = { id: '', name: 'nobody', isAdmin: false, groups: new Set() };
/** Limits count characters; UTF-8 needs at most four bytes for one. */
const BYTES_PER_CHARACTER = 4;

async function acceptAndStir({ accept, groupWatch }: ApiDeps, request: AcceptRequest): Promise<Accepted> {
  const accepted = await accept(request);
  groupWatch.stir(accepted.taskGroupId);
  return accepted;
}

/** All routes, in matching order. */
export function allRoutes(deps: ApiDeps): Route[] {
  const routes = [...serviceRoutes(deps), ...authRoutes(deps), ...globusRoutes(deps), ...flowsRoutes(deps), ...v1Routes(deps)];
  return [...routes, openApiRoute(routes)];
}

export function createApp(given: ApiDeps): Express {
  const deps: ApiDeps = { ...given, accept: (request) => acceptAndStir(given, request) };
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag'); // Responses are not cacheable, and hashing large results costs CPU time.
  app.set('query parser', 'simple');
  app.use(acceptAbsoluteForm());
  app.use(assignRequestId());
  app.use(secureResponses());
  app.use(closeConnections());
  app.use(closeAtStop(deps.stopping));
  app.use(allowTemporalUi(deps.config));

  const guards: Record<RouteAccess, RequestHandler[]> = {
    open: [],
    'attempt-token': [], // The token is for one attempt; `authorize` of the route checks it.
    user: [authenticate(deps.identities), refuseAgents()],
    agent: [authenticate(deps.identities)],
    admin: [authenticate(deps.identities), requireAdmin()], // an API token also needs the scope `admin`
  };
  const limits: BodyLimits = {
    requestBytes: deps.config.FUNCX_MAX_REQUEST_BYTES,
    rawBytes: deps.config.FUNCX_MAX_BODY_CHARS * BYTES_PER_CHARACTER,
    largeRequests: createLargeRequests(),
    inFlight: limitBodiesInFlight({
      holderOf: (req, res) => (res.locals.identity as Identity | undefined)?.id ?? req.socket.remoteAddress ?? '',
    }),
    // A request without an identity has a token for one task; its path names the task.
    ownerOf: (req, res) => (res.locals.identity as Identity | undefined)?.id ?? (req.url ?? '').split('?', 1)[0] ?? '',
  };
  const mount = (route: Route, ...first: RequestHandler[]): void => {
    const handlers = [...guards[route.access], ...scopeOf(route), authorize(route), ...bodyReader(route, limits), answer(route)];
    app[route.method](route.path, ...first, measureRequests(route), deps.audit.watch(route), ...handlers);
  };
  for (const route of releaseRoutes(deps)) mount(route, onlyThisRelease());
  for (const route of allRoutes(deps)) mount(route, ...(route.wire === 'flows' ? [speaksFlows()] : []));
  app.use(unknownRoute());
  app.use(releaseErrors());
  app.use(flowsErrors());
  app.use(errorHandler(deps.log));
  return app;
}

/** Routes of Globus Flows check the resource server themselves, because they report a wrong one in their own format. */
function scopeOf(route: Route): RequestHandler[] {
  const { access, wire, resourceServers } = route;
  if (access === 'open' || access === 'attempt-token') return [];
  return wire === 'flows' ? [requireTokenScope(route)] : [requireScope(resourceServers), requireTokenScope(route)];
}

function authorize(route: Route): RequestHandler {
  return function authorizeRequest(req, _res, next) {
    route.authorize({ params: stringParameters(req), query: req.query, req });
    next();
  };
}

function answer(route: Route): RequestHandler {
  const hasIdentity = route.access === 'user' || route.access === 'agent' || route.access === 'admin';
  return async function answerRoute(req, res) {
    const value = await route.invoke({
      identity: hasIdentity ? identityOf(res) : NOBODY,
      params: stringParameters(req),
      body: req.body as unknown,
      query: req.query,
      requestId: requestIdOf(res),
      req,
      res,
    });
    if (value !== ANSWERED) res.status(route.status).json(value);
  };
}

function stringParameters(req: Request): Record<string, string> {
  return Object.fromEntries(Object.entries(req.params).map(([name, value]) => [name, String(value)]));
}
