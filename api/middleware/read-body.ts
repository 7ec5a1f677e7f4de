import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { urlencoded, type RequestHandler, type Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import type { BodySize, Route } from '../route';
import type { LargeRequests } from './large-requests';
import type { BodiesInFlight } from './limit-bodies-in-flight';
import { hasLeft, onClosed } from './on-closed';
import { parseJson, type JsonLimits } from './parse-json';
import { readBytes, readChunks, type ReadOptions } from './read-bytes';

/** Reads and parses request bodies. Runs after authentication, so that strangers cannot use memory. */

const FORM_LIMIT_BYTES = 100_000;
/** Deep enough for any metadata; recursive code of the service and of Postgres stays far from its limits. */
const MAX_DEPTH = 100;
const JSON_SIZES: Readonly<Record<BodySize, Omit<JsonLimits, 'maxDepth'> & { limitBytes: number }>> = {
  tiny: { limitBytes: 10_000, maxStrings: 100, maxOthers: 100 },
  small: { limitBytes: 1_000_000, maxStrings: 50_000, maxOthers: 20_000 },
  large: { limitBytes: 16_000_000, maxStrings: 110_000, maxOthers: 50_000 },
  submit: { limitBytes: Infinity, maxStrings: 1_000_000, maxOthers: 100_000 },
};
const UTF8 = /^"?utf-?8"?$/i;

const hashes = new WeakMap<IncomingMessage, Buffer>();

/** SHA-256 of path and body. Only for JSON that is sent with POST, which a repeat may do twice, or with an `Idempotency-Key`. */
export function bodyHashOf(req: IncomingMessage): Buffer | undefined {
  return hashes.get(req);
}

export interface BodyLimits {
  requestBytes: number;
  rawBytes: number;
  largeRequests: LargeRequests;
  /** Makes requests of all owners wait while the process holds too many bytes of bodies. */
  inFlight: BodiesInFlight;
  /** The key under which large requests are counted together. */
  ownerOf: (req: IncomingMessage, res: Response) => string;
}

export function bodyReader(route: Route, limits: BodyLimits): RequestHandler[] {
  switch (route.bodyKind) {
    case 'none':
      return [];
    case 'form':
      return [urlencoded({ extended: false, limit: FORM_LIMIT_BYTES, type: () => true })];
    case 'stream':
      return [
        function openStream(req, res, next) {
          // A stream does not hold its bytes in memory, so nobody waits for it.
          req.body = readChunks(req, { ...readOptions(req, res, limits, limits.rawBytes), isHurried: () => false });
          next();
        },
      ];
    case 'json': {
      const { limitBytes: sizeBytes, ...jsonLimits } = JSON_SIZES[route.bodySize];
      const limitBytes = Math.min(sizeBytes, limits.requestBytes);
      return [
        limits.inFlight.limit(limitBytes),
        async function readJson(req, res, next) {
          requireUtf8(req);
          const bytes = await read(req, res, limits, limitBytes);
          limits.inFlight.settle(req, bytes?.length ?? 0);
          req.body = bytes && (await parseJson(bytes, { ...jsonLimits, maxDepth: MAX_DEPTH }));
          next();
        },
      ];
    }
  }
}

async function read(req: IncomingMessage, res: Response, limits: BodyLimits, limitBytes: number): Promise<Buffer | undefined> {
  const isRepeatable = req.method === 'POST' || req.headers['idempotency-key'] !== undefined;
  const hash = isRepeatable ? createHash('sha256').update(`${req.url ?? ''}\n`) : undefined;
  const bytes = await readBytes(req, {
    ...readOptions(req, res, limits, limitBytes),
    onChunk: (chunk) => hash?.update(chunk),
  });
  if (hash) hashes.set(req, hash.digest());
  return bytes;
}

const readOptions = (req: IncomingMessage, res: Response, limits: BodyLimits, limitBytes: number): ReadOptions => ({
  limitBytes,
  onLarge: () => waitForTurn(req, res, limits),
  isHurried: () => limits.inFlight.isCrowded(),
  // The rest of the body may arrive later, so the connection cannot take another request.
  onSlow: () => void res.setHeader('connection', 'close'),
});

/** Waits for the turn of a large request, which lasts until its response is closed. */
async function waitForTurn(req: IncomingMessage, res: Response, limits: BodyLimits): Promise<void> {
  const leave = await limits.largeRequests.enter(limits.ownerOf(req, res));
  if (hasLeft(req, res)) leave();
  else onClosed(req, res, leave);
}

function requireUtf8(req: IncomingMessage): void {
  const charset = /;\s*charset=([^;\s]+)/i.exec(req.headers['content-type'] ?? '')?.[1];
  if (charset === undefined || UTF8.test(charset)) return;
  req.resume();
  throw new TerminalError('UNSUPPORTED_MEDIA_TYPE', `JSON must be encoded in UTF-8, not ${charset.slice(0, 50)}`);
}
