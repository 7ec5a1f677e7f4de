import { register } from 'prom-client';

import { versionQuerySchema, versionResponseSchema } from '../contracts/http/globus';
import { healthSchema, readinessSchema } from '../contracts/http/v1';
import type { ApiDeps } from './deps';
import { ANSWERED, route, type Route } from './route';

/** Health, version and metrics of the service. */

const API_VERSION = '1.0.60';

/** Retry-After of a 503. */
const RETRY_AFTER_S = 3;

export function serviceRoutes({ readiness }: ApiDeps): Route[] {
  return [
    route({
      method: 'get',
      path: '/healthz',
      summary: 'Checks that the process responds',
      access: 'open',
      response: healthSchema,
      handle: () => ({ status: 'ok' }),
    }),
    route({
      method: 'get',
      path: '/readyz',
      summary: 'Checks that every engine responds; a 503 names the engine that does not',
      access: 'open',
      response: readinessSchema,
      handle: async ({ res }) => {
        const engines = await readiness();
        const ready = Object.values(engines).every((engine) => engine.ok);
        if (!ready) res.setHeader('retry-after', String(RETRY_AFTER_S));
        res.status(ready ? 200 : 503).json({ ready, engines });
        return ANSWERED;
      },
    }),
    route({
      method: 'get',
      path: '/v2/version',
      summary: 'Returns the versions of the interface; needs no token, because diagnostic tools send none',
      access: 'open',
      query: versionQuerySchema,
      response: versionResponseSchema,
      handle: () => ({ api: API_VERSION, min_sdk_version: '2.0.0', min_ep_version: '2.0.0' }),
    }),
    route({
      method: 'get',
      path: '/metrics',
      summary: 'Returns metrics in the Prometheus text format',
      access: 'admin',
      contentType: 'text/plain',
      handle: async ({ res }) => {
        res.type(register.contentType).send(await register.metrics());
        return ANSWERED;
      },
    }),
  ];
}
