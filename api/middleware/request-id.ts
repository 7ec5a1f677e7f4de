import { randomUUID } from 'node:crypto';

import type { RequestHandler, Response } from 'express';

/** Assigns a request ID, which appears in the response and in every log line about the request. */
export const assignRequestId = (): RequestHandler =>
  function requestId(_req, res, next) {
    const id = randomUUID();
    res.locals.requestId = id;
    res.setHeader('x-request-id', id);
    next();
  };

export function requestIdOf(res: Response): string {
  const id: unknown = res.locals.requestId;
  if (typeof id !== 'string') throw new Error('the request has no ID');
  return id;
}
