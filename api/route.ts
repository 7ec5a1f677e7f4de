import type { Request, Response } from 'express';
import type { z } from 'zod';

import { TerminalError, type ErrorCode } from '../contracts/errors';
import { uuidSchema } from '../contracts/http/v1';
import type { Identity } from '../platform/access';
import { COMPUTE_RESOURCE_SERVER } from './auth/scopes';

/** Describes a route once; mounting, validation and `/openapi.json` use the same description. */

export type Method = 'get' | 'post' | 'put' | 'delete';

/**
 * `open`: no token. `user`: any identity except those of agents. `agent`: any identity. `admin`: administrators.
 * `attempt-token`: the signed token of one attempt.
 */
export type RouteAccess = 'open' | 'user' | 'agent' | 'admin' | 'attempt-token';

/** How to parse the request body. `none` ignores the body. */
export type BodyKind = 'json' | 'form' | 'stream' | 'none';

/** How large a JSON body may be. `tiny`: 10 KB. `small`: 1 MB. `large`: 16 MB. `submit`: FUNCX_MAX_REQUEST_BYTES. */
export type BodySize = 'tiny' | 'small' | 'large' | 'submit';

/** A request before its body is read. */
export type RequestHead = Pick<RouteRequest<unknown, unknown>, 'params' | 'query' | 'req'>;

export interface RouteRequest<Body, Query> {
  /** The caller; an identity without permissions if the route is `open` or takes an attempt token. */
  identity: Identity;
  /** Path parameters; use {@link idParameter} for IDs. */
  params: Record<string, string>;
  body: Body;
  query: Query;
  requestId: string;
  req: Request;
  res: Response;
}

/** Returned by handlers that have written the response themselves. */
export const ANSWERED = Symbol('answered');

export interface RouteDescription {
  method: Method;
  /** In express form: `/v2/tasks/:id`. */
  path: string;
  summary: string;
  access: RouteAccess;
  bodyKind: BodyKind;
  bodySize: BodySize;
  body?: z.ZodType;
  query?: z.ZodType;
  response?: z.ZodType;
  status: number;
  contentType: string;
  /** Codes to document in addition to the codes that every route can return. */
  errors: readonly ErrorCode[];
  /** Set for routes whose errors have the format of Globus Flows. */
  wire?: 'flows';
}

export interface Route extends RouteDescription {
  /** The resource servers whose tokens the route accepts. */
  resourceServers: readonly string[];
  /** Throws if the request is refused. Runs before the body is read. */
  authorize(request: RequestHead): void;
  invoke(request: RouteRequest<unknown, unknown>): Promise<unknown>;
}

interface RouteSpec<Body extends z.ZodType, Query extends z.ZodType> {
  method: Method;
  path: string;
  summary: string;
  access?: RouteAccess;
  bodyKind?: BodyKind;
  bodySize?: BodySize;
  resourceServers?: readonly string[];
  authorize?(request: RequestHead): void;
  body?: Body;
  query?: Query;
  response?: z.ZodType;
  status?: number;
  contentType?: string;
  errors?: readonly ErrorCode[];
  /** Returns the JSON response, or {@link ANSWERED}. */
  handle(request: RouteRequest<z.output<Body>, z.output<Query>>): unknown;
}

export function route<Body extends z.ZodType = z.ZodUndefined, Query extends z.ZodType = z.ZodUndefined>(
  spec: RouteSpec<Body, Query>,
): Route {
  return {
    method: spec.method,
    path: spec.path,
    summary: spec.summary,
    access: spec.access ?? 'user',
    bodyKind: spec.bodyKind ?? (spec.body ? 'json' : 'none'),
    bodySize: spec.bodySize ?? 'small',
    resourceServers: spec.resourceServers ?? [COMPUTE_RESOURCE_SERVER],
    authorize: (request) => spec.authorize?.(request),
    ...(spec.body && { body: spec.body }),
    ...(spec.query && { query: spec.query }),
    ...(spec.response && { response: spec.response }),
    status: spec.status ?? 200,
    contentType: spec.contentType ?? 'application/json',
    errors: spec.errors ?? [],
    invoke: async (request) =>
      spec.handle({
        ...request,
        body: parse(spec.body, request.body, 'body'),
        query: parse(spec.query, request.query, 'query'),
      }),
  };
}

function parse<S extends z.ZodType>(schema: S | undefined, value: unknown, part: string): z.output<S> {
  if (!schema) return undefined as z.output<S>; // S is ZodUndefined.
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new TerminalError('INVALID_REQUEST', describe(parsed.error, part), { cause: parsed.error });
}

function describe(error: z.ZodError, part: string): string {
  const all = error.issues.flatMap(withoutUnions);
  const issues = all.slice(0, 3).map((issue) => {
    const field = issue.path.map(String).join('.');
    return `${field === '' ? `the ${part}` : `${part} field "${field.slice(0, 200)}"`}: ${issue.message}`;
  });
  const more = all.length > 3 ? `; and ${all.length - 3} more problems` : '';
  return `the request is not valid: ${issues.join('; ')}${more}`;
}

type Issue = z.core.$ZodIssue;

/** Replaces the issue of a union, which only says that nothing matches, by the issues of the alternative that matches best. */
function withoutUnions(issue: Issue): Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const [best] = [...issue.errors].sort((a, b) => deepest(b) - deepest(a) || a.length - b.length);
  if (!best) return [issue];
  return best.flatMap((inner) => withoutUnions({ ...inner, path: [...issue.path, ...inner.path] }));
}

const deepest = (issues: readonly Issue[]): number => Math.max(...issues.map((issue) => issue.path.length));

/** A path parameter that must be an ID. A malformed ID gets the same error as an unknown ID. */
export function idParameter(request: { params: Record<string, string> }, name: string, notFound: ErrorCode): string {
  const text = request.params[name] ?? '';
  const parsed = uuidSchema.safeParse(text);
  if (!parsed.success) throw new TerminalError(notFound, `"${text.slice(0, 100)}" is not an ID; IDs are UUIDs`);
  return parsed.data;
}
