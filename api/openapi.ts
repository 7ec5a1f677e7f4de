import { z } from 'zod';

import { ERROR_CATALOGUE, type ErrorCode } from '../contracts/errors';
import { flowsErrorSchema } from '../contracts/http/flows';
import { errorBodySchema } from '../contracts/http/globus';
import { route, type Route, type RouteDescription } from './route';

/** Generates `/openapi.json` from the routes, so that the schemas that validate requests also document them. */

const JSON_TYPE = 'application/json';
const SECURITY = {
  open: [],
  user: [{ token: [] }],
  agent: [{ token: [] }],
  admin: [{ token: [] }],
  'attempt-token': [{ bodyToken: [] }],
} as const;

type Json = Record<string, unknown>;

export function openApiRoute(routes: readonly Route[]): Route {
  let document: Json | undefined;
  return route({
    method: 'get',
    path: '/openapi.json',
    summary: 'Returns this document',
    access: 'open',
    handle: () => (document ??= openApiDocument(routes)),
  });
}

export function openApiDocument(routes: readonly RouteDescription[]): Json {
  const paths: Record<string, Json> = {};
  for (const one of routes) {
    const path = one.path.replace(/:([A-Za-z_]+)/g, '{$1}');
    paths[path] = { ...paths[path], [one.method]: operation(one) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'funcX on Temporal',
      version: '0.1.0',
      description:
        'Federated function-as-a-service. /v2 and /v3 serve Globus Compute and funcX clients, /flows and /runs serve Globus Flows clients; /v1 is our own interface.',
    },
    paths,
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'An access token from POST /v2/oauth2/token.' },
        bodyToken: {
          type: 'http',
          scheme: 'bearer',
          description: 'A signed token for one attempt of a task; the task message contains it.',
        },
      },
      schemas: {
        Error: {
          ...schemaOf(errorBodySchema, 'output'),
          description: Object.entries(ERROR_CATALOGUE)
            .map(([code, { status, meaning }]) => `${status} ${code}: ${meaning}`)
            .join('\n'),
        },
        FlowsError: schemaOf(flowsErrorSchema, 'output'),
      },
    },
  };
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return rest;
}

function operation(one: RouteDescription): Json {
  const bodyType = { json: JSON_TYPE, form: 'application/x-www-form-urlencoded', stream: 'text/plain', none: '' }[one.bodyKind];
  return {
    operationId: operationId(one),
    summary: one.summary,
    security: SECURITY[one.access],
    parameters: [...pathParameters(one), ...queryParameters(one)],
    ...(one.bodyKind === 'none'
      ? {}
      : {
          requestBody: {
            required: true,
            content: { [bodyType]: { schema: one.body ? schemaOf(one.body, 'input') : { type: 'string' } } },
          },
        }),
    responses: {
      [one.status]: {
        description: 'Success',
        content: { [one.contentType]: { schema: one.response ? schemaOf(one.response, 'output') : {} } },
      },
      ...errorResponses(one),
    },
  };
}

/** Operation name, such as `postV3EndpointsIdSubmit`. Generated clients use it, so it derives from method and path only. */
function operationId({ method, path }: RouteDescription): string {
  const words = path.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');
  return method + words.map((word) => word[0]?.toUpperCase() + word.slice(1)).join('');
}

function pathParameters({ path }: RouteDescription): Json[] {
  return [...path.matchAll(/:([A-Za-z_]+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
}

function queryParameters({ query }: RouteDescription): Json[] {
  if (!query) return [];
  const { properties = {}, required = [] } = schemaOf(query, 'input') as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', required: required.includes(name), schema }));
}

function errorResponses(one: RouteDescription): Json {
  const codes = new Set<ErrorCode>(one.errors);
  if (one.access !== 'open') codes.add('UNAUTHENTICATED');
  if (one.access === 'admin') codes.add('FORBIDDEN');
  if (one.body || one.query) codes.add('INVALID_REQUEST');
  if (one.bodyKind === 'json') codes.add('PAYLOAD_TOO_LARGE');
  if (one.bodyKind === 'json' || one.bodyKind === 'stream') codes.add('REQUEST_TIMEOUT');
  codes.add('UNAVAILABLE');
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    const { status } = ERROR_CATALOGUE[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, names]) => [
      String(status),
      {
        description: names.join(', '),
        content: { [JSON_TYPE]: { schema: { $ref: `#/components/schemas/${one.wire === 'flows' ? 'FlowsError' : 'Error'}` } } },
      },
    ]),
  );
}
