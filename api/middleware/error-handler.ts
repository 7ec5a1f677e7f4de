import type { ErrorRequestHandler, RequestHandler } from 'express';

import { ensureError, ERROR_CATALOGUE, FuncXError, RetryableError, TerminalError } from '../../contracts/errors';
import type { ErrorBody } from '../../contracts/http/globus';
import type { Logger } from '../../platform/log';
import { requestIdOf } from './request-id';

/** The border where every throw becomes an answer. What is not ours says nothing about itself. */

/** Node and Postgres codes of a connection that failed or an engine that is starting or stopping. */
const CONNECTION_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH']);
/** Of our publisher, the Temporal client and amqplib: the engine or the way to it is gone. */
const ENGINE_ERRORS = new Set(['PublishError', 'ServiceError', 'IllegalOperationError']);
const LOST_CONNECTION = /^(Connection terminated|timeout exceeded|the message broker is not connected)/;
const UNAVAILABLE_SQLSTATE = /^(08|53|57P|40)/;
/** Data exceptions, and limits of Postgres such as the depth of JSON. */
const DATA_SQLSTATE = /^(22|54)/;

export const unknownRoute = (): RequestHandler =>
  function noSuchRoute(req) {
    throw new TerminalError('NOT_FOUND', `the service has no route ${req.method} ${req.path.slice(0, 200)}; see /openapi.json`);
  };

export const errorHandler = (log: Logger): ErrorRequestHandler =>
  // Express tells error handlers by their four parameters.
  function answerError(thrown: unknown, req, res, _next) {
    const error = translateError(thrown);
    const requestId = requestIdOf(res);
    if (error.httpStatus >= 500) log.error({ err: thrown, requestId, method: req.method, path: req.path }, 'a request failed');
    else log.debug({ code: error.code, reason: error.message, requestId }, 'a request was refused');
    if (res.headersSent) {
      res.destroy();
      return;
    }
    if (error.retryAfterS !== undefined) res.setHeader('retry-after', String(Math.max(1, Math.ceil(error.retryAfterS))));
    if (error.code === 'UNAUTHENTICATED') res.setHeader('www-authenticate', 'Bearer');
    const body: unknown = res.locals.errorBody; // of a wire with a shape of its own
    res.status(error.httpStatus).json(body ?? errorBody(error, requestId));
  };

export function errorBody(error: FuncXError, requestId: string): ErrorBody {
  return {
    code: error.code,
    message: error.message,
    request_id: requestId,
    type: `urn:funcx:error:${error.code}`,
    title: ERROR_CATALOGUE[error.code].meaning,
    status: error.httpStatus,
    detail: error.message,
  };
}

/** Any throw as one of ours. */
export function translateError(thrown: unknown): FuncXError {
  if (thrown instanceof FuncXError) return thrown;
  const error = ensureError(thrown);
  const { type, code, status } = error as { type?: unknown; code?: unknown; status?: unknown };
  if (typeof status === 'number') return translateBodyError(typeof type === 'string' ? type : error.message, status, error);
  if (typeof code === 'string') {
    if (CONNECTION_CODES.has(code) || UNAVAILABLE_SQLSTATE.test(code)) return unavailable(error);
    if (DATA_SQLSTATE.test(code)) {
      return new TerminalError(
        'INVALID_REQUEST',
        'the request holds something that can not be stored: a NUL, or JSON that is nested too deep',
        {
          cause: error,
        },
      );
    }
  }
  if (error instanceof RangeError && error.message.startsWith('Maximum call stack')) {
    return new TerminalError('INVALID_REQUEST', 'the JSON of the request is nested too deep', { cause: error });
  }
  if (error instanceof URIError) return new TerminalError('NOT_FOUND', 'the path is not well formed', { cause: error });
  if (ENGINE_ERRORS.has(error.name) || LOST_CONNECTION.test(error.message)) return unavailable(error);
  return new TerminalError('INTERNAL', ERROR_CATALOGUE.INTERNAL.meaning, { cause: error });
}

function unavailable(cause: Error): RetryableError {
  return new RetryableError('an engine of the service does not answer; try again in a moment', { cause });
}

/** What express's body readers throw (package body-parser); without a type where a compressed body is broken. */
function translateBodyError(type: string, status: number, cause: Error): FuncXError {
  switch (type) {
    case 'entity.too.large':
      return new TerminalError('PAYLOAD_TOO_LARGE', 'the request is larger than the service takes at once; send fewer tasks', {
        cause,
      });
    case 'entity.parse.failed':
      return new TerminalError('INVALID_REQUEST', 'the request body is not well-formed JSON', { cause });
    default:
      if (status >= 500) return new TerminalError('INTERNAL', ERROR_CATALOGUE.INTERNAL.meaning, { cause });
      return new TerminalError('INVALID_REQUEST', `the request body can not be read: ${type}`, { cause });
  }
}
