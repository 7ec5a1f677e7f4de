import type { RequestHandler } from 'express';

const ABSOLUTE = /^https?:\/\/[^/?#]*/i;

/**
 * A client that uses the service as its HTTP proxy sends the absolute URL in the request line (RFC 9112, section 3.2.2). The
 * stock SDK always calls http://localhost:5000, so a proxy lets it reach a service on another host. Any host is accepted.
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
