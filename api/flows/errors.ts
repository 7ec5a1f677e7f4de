import type { ErrorRequestHandler, RequestHandler } from 'express';
import { ZodError } from 'zod';

import type { FuncXError } from '../../contracts/errors';
import type { FlowsErrorBody } from '../../contracts/http/flows';
import { translateError } from '../middleware/error-handler';
import { requestIdOf } from '../middleware/request-id';

/** Errors as the Globus Flows clients read them. `detail` must always be present: the CLI reads it without a check. */

export const FLOWS_ERRORS = {
  FLOW_INPUT_ERROR: 400,
  AUTHENTICATION_ERROR: 401,
  FORBIDDEN: 403,
  /** The token is for another resource server. Gladier reacts with a new login. */
  MISSING_SCOPE: 403,
  NOT_FOUND: 404,
  STATE_CONFLICT: 409,
  SCOPE_RESOLUTION_FAILED: 409,
  UNPROCESSABLE_ENTITY: 422,
} as const;
export type FlowsErrorCode = keyof typeof FLOWS_ERRORS;

export interface FlowsErrorDetail {
  loc: (string | number)[];
  msg: string;
  type: string;
}

export class FlowsError extends Error {
  constructor(
    readonly code: FlowsErrorCode,
    readonly detail: string | FlowsErrorDetail[],
    message?: string,
  ) {
    super(message ?? (typeof detail === 'string' ? detail : code));
    this.name = 'FlowsError';
  }

  get status(): number {
    return FLOWS_ERRORS[this.code];
  }
}

/** Marks requests to routes whose errors have this format. */
export const speaksFlows = (): RequestHandler =>
  function markFlows(_req, res, next) {
    res.locals.speaksFlows = true;
    next();
  };

/** Responds to errors of the caller. Errors of the service go to the general handler, which logs them. */
export const flowsErrors = (): ErrorRequestHandler =>
  function answerFlowsError(thrown: unknown, req, res, next) {
    if (res.locals.speaksFlows !== true || res.headersSent) {
      next(thrown);
      return;
    }
    const debugId = requestIdOf(res);
    if (thrown instanceof FlowsError) {
      res.status(thrown.status).json(bodyOf(thrown, debugId));
      return;
    }
    const error = translateError(thrown, req.body);
    const own = ofService(error);
    if (own === undefined) {
      // 413, 429 and 5xx keep their code and status; the general handler sends the headers and this body.
      res.locals.errorBody = { error: { code: error.code, detail: error.message }, debug_id: debugId } satisfies FlowsErrorBody;
      next(thrown);
      return;
    }
    if (own.code === 'AUTHENTICATION_ERROR') res.setHeader('www-authenticate', 'Bearer');
    res.status(own.status).json(bodyOf(own, debugId));
  };

function bodyOf({ code, detail, message }: FlowsError, debugId: string): FlowsErrorBody {
  const head = typeof detail === 'string' ? {} : { message };
  return { error: { code, detail, ...head }, debug_id: debugId };
}

function ofService(error: FuncXError): FlowsError | undefined {
  switch (error.code) {
    case 'UNAUTHENTICATED':
      return new FlowsError('AUTHENTICATION_ERROR', error.message);
    case 'FORBIDDEN':
      return new FlowsError('FORBIDDEN', error.message);
    case 'NOT_FOUND':
      return new FlowsError('NOT_FOUND', error.message);
    case 'CONFLICT':
      return new FlowsError('STATE_CONFLICT', error.message);
    case 'INVALID_REQUEST':
      return error.cause instanceof ZodError
        ? invalid(error.cause.issues.map((issue) => ({ loc: issue.path.map(wordOf), msg: issue.message, type: issue.code })))
        : new FlowsError('UNPROCESSABLE_ENTITY', [{ loc: [], msg: error.message, type: 'value_error' }], error.message);
    default:
      return undefined;
  }
}

const wordOf = (part: PropertyKey): string | number => (typeof part === 'number' ? part : String(part));

/** The message counts the mistakes and shows the first, as the CLI prints it. */
export function invalid(
  details: FlowsErrorDetail[],
  code: 'UNPROCESSABLE_ENTITY' | 'SCOPE_RESOLUTION_FAILED' = 'UNPROCESSABLE_ENTITY',
): FlowsError {
  const [first] = details;
  const count = `${details.length} validation error${details.length === 1 ? '' : 's'} in body`;
  return new FlowsError(code, details, first ? `${count}. ${jsonPath(first.loc)}: ${first.msg}` : count);
}

export function jsonPath(loc: readonly (string | number)[]): string {
  return loc.reduce<string>((path, part) => {
    if (typeof part === 'number') return `${path}[${part}]`;
    return /^[^[\]'"\\.]+$/.test(part) ? `${path}.${part}` : `${path}['${part.replace(/['\\]/g, '\\$&')}']`;
  }, '$');
}
