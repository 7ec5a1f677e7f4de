import type { IncomingMessage } from 'node:http';

import type { Request, RequestHandler, Response } from 'express';

import { RetryableError } from '../../contracts/errors';
import { ByteBudget } from '../byte-budget';
import { hasLeft, onClosed } from './on-closed';
import { maxDecodedBytes } from './read-bytes';

/**
 * Bounds the bytes of the request bodies that the process holds. Above the limit, a request waits before its body is read:
 * the client's bytes stay in the network. Released clients give up after 15 to 20 s of refusals, so a request waits that
 * long before it is refused. Nothing of a refused request is stored.
 *
 * A request holds the bytes that it announces, also before they arrive, and a compressed one what its body may become. So nobody
 * may hold more than a share, and while others wait, a body must arrive at a certain pace (`read-bytes.ts`).
 */

const LIMIT_BYTES = 256 * 1024 * 1024;
/** Of one identity, or of one address without an identity. */
const SHARE = 1 / 2;
const MAX_WAIT_MS = 20_000;
const RETRY_AFTER_S = 5;

export interface BodyLimit {
  /** Whose share the body takes. */
  holderOf: (req: Request, res: Response) => string;
  limitBytes?: number;
  maxWaitMs?: number;
}

export interface BodiesInFlight {
  /** `maxBodyBytes`: the most bytes of a body of the route, assumed for a request that does not announce its length. */
  limit(maxBodyBytes: number): RequestHandler;
  /** Call when the body is read. What the request held beyond its bytes is there for others. */
  settle(req: IncomingMessage, bytes: number): void;
  /** True while a request waits for the memory that others hold. */
  isCrowded(): boolean;
}

export function limitBodiesInFlight({ holderOf, limitBytes = LIMIT_BYTES, maxWaitMs = MAX_WAIT_MS }: BodyLimit): BodiesInFlight {
  const budget = new ByteBudget(limitBytes, limitBytes * SHARE);
  const admitted = new WeakMap<IncomingMessage, (needed: number) => void>();

  const limit = (maxBodyBytes: number): RequestHandler =>
    function limitBodies(req, res, next) {
      if (hasLeft(req, res)) return; // during authentication
      const announced =
        req.headers['transfer-encoding'] === undefined ? Number(req.headers['content-length'] ?? 0) : maxBodyBytes;
      if (!(announced > 0)) {
        next();
        return;
      }
      const bytes = Math.min(maxDecodedBytes(req, announced), maxBodyBytes);
      const waiting: { timer?: NodeJS.Timeout } = {};
      let isAdmitted = false;
      const onAdmitted = (release: (needed?: number) => void): void => {
        isAdmitted = true;
        clearTimeout(waiting.timer);
        admitted.set(req, release);
        onClosed(req, res, () => release());
        next();
      };
      const leave = budget.request(bytes, onAdmitted, holderOf(req, res));
      if (isAdmitted) return;
      onClosed(req, res, () => {
        clearTimeout(waiting.timer);
        leave();
      });
      waiting.timer = setTimeout(() => {
        leave();
        next(
          new RetryableError('The service is reading too many large requests. Repeat this request in a few seconds.', {
            retryAfterS: RETRY_AFTER_S,
          }),
        );
      }, maxWaitMs);
    };
  return { limit, settle: (req, bytes) => admitted.get(req)?.(bytes), isCrowded: () => budget.isCrowded };
}
