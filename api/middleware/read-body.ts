import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { json, raw, urlencoded, type RequestHandler } from 'express';

import type { BodyKind } from '../route';
import { limitBodiesInFlight } from './limit-bodies-in-flight';

/** Bodies are read only after the caller is known, so that nobody else can make us hold 64 MiB. */

const FORM_LIMIT_BYTES = 100_000;
const hashes = new WeakMap<IncomingMessage, Buffer>();

const MAY_REPEAT = /\/(submit|flows|run)(\?|$)/;

/** Only requests that may be repeated pay for the hash: submits, new flows and runs, and whatever has a key. */
function keepHash(req: IncomingMessage, _res: unknown, body: Buffer): void {
  if (req.headers['idempotency-key'] === undefined && !MAY_REPEAT.test(req.url ?? '')) return;
  hashes.set(
    req,
    createHash('sha256')
      .update(req.url ?? '')
      .update('\n')
      .update(body)
      .digest(),
  );
}

/** What makes two requests the same: path and body. Only there for submits, and with an `Idempotency-Key`. */
export function bodyHashOf(req: IncomingMessage): Buffer | undefined {
  return hashes.get(req);
}

export function bodyReaders(limits: { requestBytes: number; rawBytes: number }): Record<BodyKind, RequestHandler[]> {
  // Whatever the content type says: the routes know what they expect.
  const type = (): boolean => true;
  const limit = limitBodiesInFlight({ maxBodyBytes: Math.max(limits.requestBytes, limits.rawBytes) });
  return {
    json: [limit, json({ limit: limits.requestBytes, type, verify: keepHash })],
    form: [urlencoded({ extended: false, limit: FORM_LIMIT_BYTES, type })],
    raw: [limit, raw({ limit: limits.rawBytes, type })],
    none: [],
  };
}
