import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';

import { FuncXError, RetryableError, TerminalError } from '../../contracts/errors';

/** Reads a request body within a limit on its decompressed size and on the compression ratio. */

const DECODERS: Readonly<Record<string, () => NodeJS.ReadWriteStream & Readable>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};
/** Longer bodies are large. Up to this size, any compression ratio is allowed. */
export const LARGE_BYTES = 1_000_000;
/** Serialized data stays below this factor. It bounds the work that a small request can cause. */
const MAX_RATIO = 100;
/** The pace of a body is judged once in this time. */
const WINDOW_MS = 10_000;
/** A body ends after this many windows without a byte. While others wait, it must come so fast that it is complete after them. */
const MAX_WINDOWS = 6;
const RETRY_AFTER_S = 5;

/** The most bytes that a body of this length may have once it is decompressed. */
export function maxDecodedBytes(req: Pick<IncomingMessage, 'headers'>, length: number): number {
  return encodingOf(req) === 'identity' ? length : Math.max(LARGE_BYTES, length * MAX_RATIO);
}

const encodingOf = ({ headers }: Pick<IncomingMessage, 'headers'>): string =>
  (headers['content-encoding'] ?? 'identity').toLowerCase();

export interface ReadOptions {
  limitBytes: number;
  /** Called once when the body becomes large. The body is not read further until the promise resolves. */
  onLarge: () => Promise<void>;
  /** True while other requests wait for memory that this body holds. */
  isHurried: () => boolean;
  /** Called before the error, when the rest of the body does not arrive or arrives too slowly. */
  onSlow: () => void;
  windowMs?: number;
}

export async function readBytes(
  req: IncomingMessage,
  options: ReadOptions & { onChunk?: (chunk: Buffer) => void },
): Promise<Buffer | undefined> {
  if (!hasBody(req)) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of readChunks(req, options)) {
    options.onChunk?.(chunk);
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

/** The decompressed body, as it arrives. Nothing is read before the first chunk is requested. */
export async function* readChunks(
  req: IncomingMessage,
  { limitBytes, onLarge, isHurried, onSlow, windowMs = WINDOW_MS }: ReadOptions,
): AsyncGenerator<Buffer, void> {
  if (!hasBody(req)) return;
  const encoding = encodingOf(req);
  if (encoding === 'identity' && Number(req.headers['content-length'] ?? 0) > limitBytes) throw tooLarge(req, limitBytes);

  const announced = req.headers['transfer-encoding'] === undefined ? Number(req.headers['content-length']) : limitBytes;
  const pace = { windowMs, isHurried, onSlow, bytesInWindow: Math.min(announced, limitBytes) / MAX_WINDOWS };
  let compressedBytes = 0;
  const source = decode(req, encoding, (chunk) => (compressedBytes += chunk.length));
  let bytes = 0;
  let isLarge = false;
  let isRead = false;
  try {
    for await (const chunk of inTime(source, pace)) {
      bytes += chunk.length;
      if (bytes > limitBytes) throw tooLarge(req, limitBytes);
      if (bytes > LARGE_BYTES) {
        if (source !== req && bytes > compressedBytes * MAX_RATIO) {
          throw new TerminalError(
            'PAYLOAD_TOO_LARGE',
            `the request is compressed by a factor of more than ${MAX_RATIO}; send it uncompressed`,
          );
        }
        if (!isLarge) {
          isLarge = true;
          await onLarge();
        }
      }
      yield chunk;
    }
    isRead = true;
  } catch (error) {
    if (error instanceof FuncXError) throw error;
    throw new TerminalError('INVALID_REQUEST', 'the request body ends early or is not compressed as its Content-Encoding says', {
      cause: error,
    });
  } finally {
    if (!isRead) {
      if (source !== req) {
        req.unpipe();
        source.destroy();
      }
      req.resume(); // Discard the rest, so that the client can read the response.
    }
  }
}

interface Pace {
  windowMs: number;
  /** While others wait. */
  bytesInWindow: number;
  isHurried: () => boolean;
  onSlow: () => void;
}

/** Fails when chunks come too slowly. Only the time in which the service waits for bytes counts. */
async function* inTime(source: Readable, { windowMs, bytesInWindow, isHurried, onSlow }: Pace): AsyncGenerator<Buffer, void> {
  const chunks = source.iterator({ destroyOnReturn: false }) as AsyncGenerator<Buffer, void>;
  let isSlow = false;
  const tooSlow = (error: FuncXError): FuncXError => {
    isSlow = true;
    onSlow();
    return error;
  };
  const others = 'other requests wait, and this one arrives too slowly; send it again, or send less in one request';
  let waitedMs = 0;
  let bytes = 0;
  try {
    for (;;) {
      const next = chunks.next();
      const startedMs = performance.now();
      for (let silent = 1; await isLate(next, windowMs); silent++) {
        if (!isHurried() && silent < MAX_WINDOWS) continue;
        next.catch(() => undefined); // nobody waits for it any more
        if (isHurried()) throw tooSlow(new RetryableError(others, { retryAfterS: RETRY_AFTER_S }));
        const silence = `no byte of the body arrived for ${(silent * windowMs) / 1_000} s`;
        throw tooSlow(new TerminalError('REQUEST_TIMEOUT', `${silence}; send the request again`));
      }
      const { value, done } = await next;
      if (done === true) return;
      // A pause of the whole process is not the fault of the client.
      waitedMs += Math.min(performance.now() - startedMs, windowMs / 2);
      bytes += value.length;
      if (waitedMs > windowMs) {
        if (isHurried() && bytes < bytesInWindow) throw tooSlow(new RetryableError(others, { retryAfterS: RETRY_AFTER_S }));
        waitedMs = bytes = 0;
      }
      yield value;
    }
  } finally {
    const closed = chunks.return(); // after a slow body, ends with the connection
    if (!isSlow) await closed;
  }
}

/** True if `work` is late. After a pause of the whole process, the second timer leaves time to read the bytes that arrived. */
function isLate(work: Promise<unknown>, afterMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    let timer = setTimeout(() => {
      timer = setTimeout(() => resolve(true), afterMs / 2);
    }, afterMs / 2);
    const onDone = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    work.then(onDone, onDone);
  });
}

const hasBody = (req: IncomingMessage): boolean =>
  Number(req.headers['content-length'] ?? 0) > 0 || req.headers['transfer-encoding'] !== undefined;

function decode(req: IncomingMessage, encoding: string, count: (chunk: Buffer) => void): Readable {
  if (encoding === 'identity') return req;
  const createDecoder = Object.hasOwn(DECODERS, encoding) ? DECODERS[encoding] : undefined;
  if (!createDecoder) {
    req.resume();
    throw new TerminalError(
      'UNSUPPORTED_MEDIA_TYPE',
      `Content-Encoding ${encoding.slice(0, 50)} is not supported; use gzip, deflate, br or none`,
    );
  }
  const decoder = createDecoder();
  req.on('data', count);
  req.once('close', () => {
    if (!req.complete) decoder.destroy(new Error('the client closed the connection'));
  });
  return req.pipe(decoder);
}

function tooLarge(req: IncomingMessage, limitBytes: number): TerminalError {
  req.resume();
  return new TerminalError(
    'PAYLOAD_TOO_LARGE',
    `the request has more than ${limitBytes} bytes, which is the limit of this route; send less in one request`,
  );
}
