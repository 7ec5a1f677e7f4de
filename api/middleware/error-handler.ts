import type { ErrorRequestHandler, RequestHandler } from 'express';

import { ensureError, ERROR_CATALOGUE, FuncXError, RetryableError, TerminalError } from '../../contracts/errors';
import type { ErrorBody } from '../../contracts/http/globus';
import type { Logger } from '../../platform/log';
import { requestIdOf } from './request-id';

/** Converts every thrown error to a response. Errors that are not ours reveal no details. */

/** Node error codes of failed connections. */
const CONNECTION_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH']);
/** Error classes of our publisher, the Temporal client and amqplib that mean an engine cannot be reached. */
const ENGINE_ERRORS = new Set(['PublishError', 'ServiceError', 'IllegalOperationError']);
const LOST_CONNECTION = /^(Connection terminated|timeout exceeded|Query read timeout|the message broker is not connected)/;
/** SQLSTATEs that a retry may cure. They include 57014, a statement that took too long, and 55P03, a lock not free in time. */
const UNAVAILABLE_SQLSTATE = /^(08|53|57|40|55P03)/;
/** SQLSTATE classes of invalid data and of Postgres limits, such as the depth of JSON. */
const DATA_SQLSTATE = /^(22|54)/;
const MAX_PLACE_CHARS = 200;

export const unknownRoute = (): RequestHandler =>
  function noSuchRoute(req) {
    throw new TerminalError('NOT_FOUND', `the route ${req.method} ${req.path.slice(0, 200)} does not exist; see /openapi.json`);
  };

export const errorHandler = (log: Logger): ErrorRequestHandler =>
  // Express recognizes error handlers by their four parameters.
  function answerError(thrown: unknown, req, res, _next) {
    const error = translateError(thrown, req.body);
    const requestId = requestIdOf(res);
    res.locals.errorCode = error.code;
    if (error.httpStatus >= 500) log.error({ err: thrown, requestId, method: req.method, path: req.path }, 'a request failed');
    else log.debug({ code: error.code, reason: error.message, requestId }, 'a request was refused');
    if (res.headersSent) {
      res.destroy();
      return;
    }
    if (error.retryAfterS !== undefined) res.setHeader('retry-after', String(Math.max(1, Math.ceil(error.retryAfterS))));
    if (error.code === 'UNAUTHENTICATED') res.setHeader('www-authenticate', 'Bearer');
    const body: unknown = res.locals.errorBody; // set for clients with their own error format
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

/** Converts any thrown value to one of our errors. `body`: the body of the request, to name the field that the store refused. */
export function translateError(thrown: unknown, body?: unknown): FuncXError {
  if (thrown instanceof FuncXError) return thrown;
  const error = ensureError(thrown);
  const { type, code, status } = error as { type?: unknown; code?: unknown; status?: unknown };
  if (typeof status === 'number') return translateBodyError(typeof type === 'string' ? type : error.message, status, error);
  if (typeof code === 'string') {
    if (CONNECTION_CODES.has(code) || UNAVAILABLE_SQLSTATE.test(code)) return unavailable(error);
    if (DATA_SQLSTATE.test(code)) {
      const place = placeOfNul(body);
      const text =
        place === undefined
          ? 'the request contains a NUL character or JSON that is nested too deeply; remove it'
          : `the field ${place} contains a NUL character, which cannot be stored; remove it`;
      return new TerminalError('INVALID_REQUEST', text, { cause: error });
    }
  }
  if (error instanceof URIError) return new TerminalError('NOT_FOUND', 'the path is not a valid URL path', { cause: error });
  if (ENGINE_ERRORS.has(error.name) || LOST_CONNECTION.test(error.message)) return unavailable(error);
  return new TerminalError('INTERNAL', ERROR_CATALOGUE.INTERNAL.meaning, { cause: error });
}

/** Where a body contains a NUL, such as `meta.author`. The parser has limited the depth, so the recursion is safe. */
function placeOfNul(value: unknown, place = ''): string | undefined {
  if (typeof value === 'string') return value.includes('\0') ? place : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const at = place === '' ? key : `${place}.${key}`;
    const found = key.includes('\0') ? at.replaceAll('\0', '\\0') : placeOfNul(item, at);
    if (found !== undefined) return found.slice(0, MAX_PLACE_CHARS);
  }
  return undefined;
}

function unavailable(cause: Error): RetryableError {
  return new RetryableError('part of the service is not available; try again in a moment', { cause });
}

/** Errors of express's body parsers (package body-parser). Errors of broken compressed bodies have no type. */
function translateBodyError(type: string, status: number, cause: Error): FuncXError {
  switch (type) {
    case 'entity.too.large':
      return new TerminalError(
        'PAYLOAD_TOO_LARGE',
        'the request is larger than the limit of this route; send less in one request',
        {
          cause,
        },
      );
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new TerminalError(
        'UNSUPPORTED_MEDIA_TYPE',
        `${cause.message}; send the body uncompressed or with gzip, deflate or br, in UTF-8`,
        {
          cause,
        },
      );
    default:
      if (status >= 500) return new TerminalError('INTERNAL', ERROR_CATALOGUE.INTERNAL.meaning, { cause });
      return new TerminalError('INVALID_REQUEST', `the request body cannot be read: ${type}`, { cause });
  }
}
