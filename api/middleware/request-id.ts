import { randomUUID } from 'node:crypto';

import type { RequestHandler, Response } from 'express';

/** Gives every request an id, which is in its answer and in every log line about it. */
export const assignRequestId = (): RequestHandler =>
  function requestId(_req, res, next) {
    const id = randomUUID();
    res.locals.requestId = id;
    res.setHeader('x-request-id', id);
    next();
  };

export function requestIdOf(res: Response): string {
  const id: unknown = res.locals.requestId;
  if (typeof id !== 'string') throw new Error('a request was not given an id');
  return id;
}
