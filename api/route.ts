import type { Request, Response } from 'express';
import type { z } from 'zod';

import { TerminalError, type ErrorCode } from '../contracts/errors';
import { uuidSchema } from '../contracts/http/v1';
import type { Identity } from '../platform/access';

/**
 * A route is described once: what mounts it, validates its request and documents it in `/openapi.json` reads the same value.
 */

export type Method = 'get' | 'post' | 'put' | 'delete';

/** `open`: no token. `user`: any identity. `admin`: administrators. `body`: the signed token of one attempt. */
export type RouteAccess = 'open' | 'user' | 'admin' | 'body';

/** How the request's body is read. `none` ignores it. */
export type BodyKind = 'json' | 'form' | 'raw' | 'none';

export interface RouteRequest<Body, Query> {
  /** Who calls; nobody where the route is `open` or `body`. */
  identity: Identity;
  /** Of the path; ids are checked by {@link idParameter}. */
  params: Record<string, string>;
  body: Body;
  query: Query;
  requestId: string;
  req: Request;
  res: Response;
}

/** Returned by handlers that answered through `res` themselves. */
export const ANSWERED = Symbol('answered');

export interface RouteDescription {
  method: Method;
  /** In express form: `/v2/tasks/:id`. */
  path: string;
  summary: string;
  access: RouteAccess;
  bodyKind: BodyKind;
  body?: z.ZodType;
  query?: z.ZodType;
  response?: z.ZodType;
  /** Status of a good answer. */
  status: number;
  /** Of a good answer. */
  contentType: string;
  /** Codes worth naming in the document, beside those every route has. */
  errors: readonly ErrorCode[];
  /** Whose errors have a shape of their own. */
  wire?: 'flows';
}

export interface Route extends RouteDescription {
  invoke(request: RouteRequest<unknown, unknown>): Promise<unknown>;
}

interface RouteSpec<Body extends z.ZodType, Query extends z.ZodType> {
  method: Method;
  path: string;
  summary: string;
  access?: RouteAccess;
  bodyKind?: BodyKind;
  body?: Body;
  query?: Query;
  response?: z.ZodType;
  status?: number;
  contentType?: string;
  errors?: readonly ErrorCode[];
  /** Its value becomes the JSON answer. */
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
  if (!schema) return undefined as z.output<S>; // the type parameter is ZodUndefined then
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
  const more = all.length > 3 ? `; and ${all.length - 3} more` : '';
  return `the request is not well formed: ${issues.join('; ')}${more}`;
}

type Issue = z.core.$ZodIssue;

/** A union only says that no shape fits; the shape that fits best says what is wrong. */
function withoutUnions(issue: Issue): Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const [best] = [...issue.errors].sort((a, b) => deepest(b) - deepest(a) || a.length - b.length);
  if (!best) return [issue];
  return best.flatMap((inner) => withoutUnions({ ...inner, path: [...issue.path, ...inner.path] }));
}

const deepest = (issues: readonly Issue[]): number => Math.max(...issues.map((issue) => issue.path.length));

/** A path parameter that is an id. One that can't be an id names nothing, so the answer is the same as for an unknown one. */
export function idParameter(request: { params: Record<string, string> }, name: string, notFound: ErrorCode): string {
  const text = request.params[name] ?? '';
  const parsed = uuidSchema.safeParse(text);
  if (!parsed.success) throw new TerminalError(notFound, `"${text.slice(0, 100)}" is not an id; ids are UUIDs`);
  return parsed.data;
}
