import type { RequestHandler } from 'express';

/** A process that stops answers on a connection once more: a client that keeps its connection would hold up the end. */
export const closeAtStop = (stopping: AbortSignal): RequestHandler =>
  function closeConnection(_req, res, next) {
    if (stopping.aborted) res.setHeader('connection', 'close');
    next();
  };
