import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';

import { FuncXError, TerminalError } from '../../contracts/errors';

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
/** How long the service waits for the next byte of a body. */
const MAX_SILENCE_MS = 10_000;

export interface ReadOptions {
  limitBytes: number;
  /** Called once when the body becomes large. The body is not read further until the promise resolves. */
  onLarge: () => Promise<void>;
  /** Called before the error, when the rest of the body does not arrive. */
  onSilent: () => void;
  maxSilenceMs?: number;
}

/** Undefined if the request has no body. */
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
  { limitBytes, onLarge, onSilent, maxSilenceMs = MAX_SILENCE_MS }: ReadOptions,
): AsyncGenerator<Buffer, void> {
  if (!hasBody(req)) return;
  const encoding = (req.headers['content-encoding'] ?? 'identity').toLowerCase();
  if (encoding === 'identity' && Number(req.headers['content-length'] ?? 0) > limitBytes) throw tooLarge(req, limitBytes);

  let compressedBytes = 0;
  const source = decode(req, encoding, (chunk) => (compressedBytes += chunk.length));
  let bytes = 0;
  let isLarge = false;
  let isRead = false;
  try {
    for await (const chunk of untilSilence(source, maxSilenceMs, onSilent)) {
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

/** The chunks of a stream. Only the time in which the service waits for bytes counts, not the time in which it reads none. */
async function* untilSilence(source: Readable, maxSilenceMs: number, onSilent: () => void): AsyncGenerator<Buffer, void> {
  const chunks = source.iterator({ destroyOnReturn: false }) as AsyncGenerator<Buffer, void>;
  let isSilent = false;
  try {
    for (;;) {
      const next = chunks.next();
      isSilent = await isLate(next, maxSilenceMs);
      if (isSilent) {
        next.catch(() => undefined); // nobody waits for it any more
        onSilent();
        const sentence = `no byte of the body arrived for ${maxSilenceMs / 1_000} s; send the request again`;
        throw new TerminalError('REQUEST_TIMEOUT', sentence);
      }
      const { value, done } = await next;
      if (done === true) return;
      yield value;
    }
  } finally {
    const closed = chunks.return(); // after a silence, ends with the connection
    if (!isSilent) await closed;
  }
}

/**
 * True if `work` is not done in time. Two timers, one after the other: after a pause of the whole process, the second leaves time
 * to read the bytes that have arrived meanwhile.
 */
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
