import type { ErrorRequestHandler } from 'express';

import type { ErrorSubject, FuncXError } from '../../contracts/errors';
import { ERROR_NUMBERS, type Error1 } from '../../contracts/http/funcx-1.0';
import { translateError } from '../middleware/error-handler';
import { releaseOf } from './release';

/** The error format of funcX 1.0 clients: a number, the arguments of their exception class, and a message. */

/** Responds to errors of the caller. Errors of the service go to the general handler, which logs them. */
export const releaseErrors = (): ErrorRequestHandler =>
  function answerReleaseError(thrown: unknown, req, res, next) {
    if (!releaseOf(req) || res.headersSent) {
      next(thrown);
      return;
    }
    const error = translateError(thrown, req.body);
    if (error.httpStatus >= 500) {
      res.locals.errorBody = errorDocument(error); // The general handler responds with this body.
      next(thrown);
      return;
    }
    if (error.retryAfterS !== undefined) res.setHeader('retry-after', String(Math.max(1, Math.ceil(error.retryAfterS))));
    const body = errorDocument(error);
    res.status(body.http_status_code).json(body);
  };

export function errorDocument(error: FuncXError): Error1 {
  const { number, args } = numberOf(error);
  return {
    status: 'Failed',
    code: ERROR_NUMBERS[number],
    error_args: args,
    reason: error.message,
    http_status_code: error.code === 'INVALID_REQUEST' ? 400 : error.httpStatus,
  };
}

interface Numbered {
  number: keyof typeof ERROR_NUMBERS;
  args: string[];
}

function numberOf(error: FuncXError): Numbered {
  const ids = [...(error.subject?.ids ?? [])];
  switch (error.code) {
    case 'UNAUTHENTICATED':
      return { number: 'unauthenticated', args: [] };
    case 'FUNCTION_NOT_FOUND':
      return named('functionNotFound', ids);
    case 'ENDPOINT_NOT_FOUND':
      return named('endpointNotFound', ids);
    case 'TASK_NOT_FOUND':
      return named('taskNotFound', ids);
    case 'GROUP_NOT_FOUND':
      return named('taskGroupNotFound', ids);
    case 'NOT_FOUND':
      return error.subject?.kind === 'container' ? named('containerNotFound', ids) : { number: 'other', args: [] };
    case 'FORBIDDEN':
      return error.subject ? named(FORBIDDEN[error.subject.kind], ids) : { number: 'other', args: [] };
    case 'INVALID_REQUEST':
    case 'PAYLOAD_TOO_LARGE':
      return { number: 'malformed', args: [error.message] };
    case 'INTERNAL':
      return { number: 'internal', args: [error.message] };
    default:
      return { number: 'other', args: [] };
  }
}

const FORBIDDEN: Readonly<Record<ErrorSubject['kind'], keyof typeof ERROR_NUMBERS>> = {
  function: 'functionForbidden',
  endpoint: 'endpointForbidden',
  permission: 'functionNotPermitted',
  task: 'other',
  'task group': 'taskGroupForbidden',
  container: 'other',
};

/** The exception classes require the IDs as arguments; without IDs, only the message can be sent. */
function named(number: Numbered['number'], ids: string[]): Numbered {
  return ids.length > 0 && number !== 'other' ? { number, args: ids } : { number: 'other', args: [] };
}
