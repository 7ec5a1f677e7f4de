import type { RequestHandler } from 'express';

import { RetryableError } from '../../contracts/errors';
import { ByteBudget } from '../byte-budget';

/**
 * Bounds the bytes of the request bodies that the process holds. Above the limit, a request waits before its body is read:
 * the client's bytes stay in the network. Released clients give up after 15 to 20 s of refusals, so a request waits that
 * long before it is refused. Nothing of a refused request is stored.
 */

const LIMIT_BYTES = 256 * 1024 * 1024;
const MAX_WAIT_MS = 20_000;
const RETRY_AFTER_S = 5;

export interface BodyLimit {
  /** The most bytes that a body may have; assumed for a request that does not announce its length. */
  maxBodyBytes: number;
  limitBytes?: number;
  maxWaitMs?: number;
}

export function limitBodiesInFlight({
  maxBodyBytes,
  limitBytes = LIMIT_BYTES,
  maxWaitMs = MAX_WAIT_MS,
}: BodyLimit): RequestHandler {
  const budget = new ByteBudget(limitBytes);

  return function limitBodies(req, res, next) {
    const announced = req.headers['transfer-encoding'] === undefined ? Number(req.headers['content-length'] ?? 0) : maxBodyBytes;
    const bytes = Math.min(announced, maxBodyBytes);
    if (!(bytes > 0)) {
      next();
      return;
    }
    const waiting: { timer?: NodeJS.Timeout } = {};
    let isAdmitted = false;
    const leave = budget.request(bytes, (release) => {
      isAdmitted = true;
      clearTimeout(waiting.timer);
      res.once('close', release);
      next();
    });
    if (isAdmitted) return;
    res.once('close', () => {
      clearTimeout(waiting.timer);
      leave();
    });
    waiting.timer = setTimeout(() => {
      leave();
      next(
        new RetryableError('The service holds too many large requests. Repeat this request in a few seconds.', {
          retryAfterS: RETRY_AFTER_S,
        }),
      );
    }, maxWaitMs);
  };
}
