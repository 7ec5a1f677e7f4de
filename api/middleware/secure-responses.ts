import type { RequestHandler } from 'express';

/** Responses hold private data: no cache may keep them, and no browser may guess another content type. */
export const secureResponses = (): RequestHandler =>
  function secureResponse(_req, res, next) {
    res.setHeader('x-content-type-options', 'nosniff');
    res.setHeader('cache-control', 'no-store');
    next();
  };
