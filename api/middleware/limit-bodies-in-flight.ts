import type { RequestHandler } from 'express';

import { RetryableError } from '../../contracts/errors';

/**
 * Bounds the bytes of the request bodies that the process holds. Above the limit a request waits before its body is read:
 * the client's bytes stay in the network. Released clients give up after 15 to 20 s of refusals, so a request waits that
 * long before it is refused; nothing of it is stored then.
 */

const LIMIT_BYTES = 256 * 1024 * 1024;
const MAX_WAIT_MS = 20_000;
const RETRY_AFTER_S = 5;

export interface BodyLimit {
  /** Assumed for a request that does not announce its length. */
  maxBodyBytes: number;
  limitBytes?: number;
  maxWaitMs?: number;
}

export function limitBodiesInFlight({
  maxBodyBytes,
  limitBytes = LIMIT_BYTES,
  maxWaitMs = MAX_WAIT_MS,
}: BodyLimit): RequestHandler {
  let held = 0;
  /** In the order of arrival: a large body is not overtaken for ever by small ones. */
  const queue: { bytes: number; admit: () => void }[] = [];

  const fits = (bytes: number): boolean => held === 0 || held + bytes <= limitBytes;

  function admitNext(): void {
    for (let next = queue[0]; next && fits(next.bytes); next = queue[0]) {
      queue.shift();
      next.admit();
    }
  }

  return function limitBodies(req, res, next) {
    const announced = req.headers['transfer-encoding'] === undefined ? Number(req.headers['content-length'] ?? 0) : maxBodyBytes;
    const bytes = Math.min(announced, maxBodyBytes);
    if (!(bytes > 0)) {
      next();
      return;
    }
    const hold = (): void => {
      held += bytes;
      res.once('close', () => {
        held -= bytes;
        admitNext();
      });
      next();
    };
    if (queue.length === 0 && fits(bytes)) {
      hold();
      return;
    }
    const entry = {
      bytes,
      admit: () => {
        clearTimeout(timer);
        res.off('close', leave);
        hold();
      },
    };
    const leave = (): void => {
      clearTimeout(timer);
      const at = queue.indexOf(entry);
      if (at >= 0) queue.splice(at, 1);
      admitNext();
    };
    const timer = setTimeout(() => {
      res.off('close', leave);
      leave();
      next(
        new RetryableError('The service holds too many large requests. Repeat this request in a few seconds.', {
          retryAfterS: RETRY_AFTER_S,
        }),
      );
    }, maxWaitMs);
    res.once('close', leave);
    queue.push(entry);
  };
}
