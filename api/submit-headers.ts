import type { IncomingMessage } from 'node:http';

import { TerminalError } from '../contracts/errors';
import { bodyHashOf } from './middleware/read-body';

/** The request headers of every submit route. */

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

export function traceparentOf(req: IncomingMessage): { traceparent?: string } {
  const value = req.headers.traceparent;
  return typeof value === 'string' && TRACEPARENT.test(value) ? { traceparent: value } : {};
}

export function idempotencyOf(req: IncomingMessage): { idempotency?: { key: string; bodyHash: Buffer } } {
  const key = req.headers['idempotency-key'];
  if (key === undefined) return {};
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,200}$/.test(key)) {
    throw new TerminalError('INVALID_REQUEST', 'the header Idempotency-Key must have 1 to 200 visible ASCII characters');
  }
  return { idempotency: { key, bodyHash: requireBodyHash(req) } };
}

/** The hash of a request that has an idempotency key, or whose route expects repeats. */
export function requireBodyHash(req: IncomingMessage): Buffer {
  const bodyHash = bodyHashOf(req);
  if (!bodyHash) throw new Error(`the body of the request to ${req.url ?? ''} has no hash`);
  return bodyHash;
}
