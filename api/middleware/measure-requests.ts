import type { RequestHandler } from 'express';
import { Histogram, register } from 'prom-client';

import type { RouteDescription } from '../route';

const METRIC = 'funcx_http_request_seconds';

const existing = register.getSingleMetric(METRIC) as Histogram | undefined; // Tests may load the module twice.
const durations =
  existing ??
  new Histogram({
    name: METRIC,
    help: 'Time from the start of a request until its response is closed, by route and status.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
  });

/** Measures every request of a route. Labels hold the route's pattern, never IDs. */
export const measureRequests = ({ method, path }: RouteDescription): RequestHandler =>
  function measureRequest(_req, res, next) {
    const stop = durations.startTimer();
    res.once('close', () => stop({ method, route: path, status: String(res.statusCode) }));
    next();
  };
