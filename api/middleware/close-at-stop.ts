import type { RequestHandler } from 'express';

/** Closes each connection with its next response once the process is stopping: a kept-alive connection would delay the stop. */
export const closeAtStop = (stopping: AbortSignal): RequestHandler =>
  function closeConnection(_req, res, next) {
    if (stopping.aborted) res.setHeader('connection', 'close');
    next();
  };
