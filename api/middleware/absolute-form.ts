import type { RequestHandler } from 'express';

const ABSOLUTE = /^https?:\/\/[^/?#]*/i;

/**
 * A client that has us as its HTTP proxy names the whole address in its request line (RFC 9112, section 3.2.2). The stock
 * SDK's address is fixed at http://localhost:5000, so this is how it reaches a service elsewhere; we answer for any host.
 */
export const acceptAbsoluteForm = (): RequestHandler =>
  function stripOrigin(req, _res, next) {
    const match = ABSOLUTE.exec(req.url);
    if (match) {
      const rest = req.url.slice(match[0].length);
      req.url = rest.startsWith('/') ? rest : `/${rest}`;
    }
    next();
  };
