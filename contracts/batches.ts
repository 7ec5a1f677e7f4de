/**
 * Batches: one broker message that carries many tasks, or many results, between the service and an agent that announced
 * {@link CAPABILITY.batches}. RabbitMQ's cost is per message.
 *
 * A batch is one byte 0x02, followed for each of its messages by two big-endian 32-bit lengths, the headers as UTF-8 JSON,
 * and the body. Headers and body are the same as in a message of its own. Stock agents and submitters get no batches.
 */

/** What an agent and the service can announce at registration. Both ignore names that they do not know. */
export const CAPABILITY = {
  batches: 'batches',
  /** Keeps the code of functions by hash, and fetches code that it lacks. */
  codeByHash: 'code-by-hash',
} as const;

export const MAX_BATCH_MESSAGES = 64;
/** The most bytes in one batch, unless a single message has more. */
export const MAX_BATCH_BYTES = 256 * 1024;

const BATCH_VERSION = 2;
const LENGTHS_BYTES = 8;

export interface BatchMessage {
  headers: Record<string, unknown>;
  body: Uint8Array;
}

export const isBatch = (bytes: Uint8Array): boolean => bytes[0] === BATCH_VERSION;

export function encodeBatch(messages: readonly BatchMessage[]): Uint8Array {
  const encoder = new TextEncoder();
  const parts = messages.map(({ headers, body }) => ({ headers: encoder.encode(JSON.stringify(headers)), body }));
  const length = parts.reduce((sum, part) => sum + LENGTHS_BYTES + part.headers.length + part.body.length, 1);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes[0] = BATCH_VERSION;
  let at = 1;
  for (const { headers, body } of parts) {
    view.setUint32(at, headers.length);
    view.setUint32(at + 4, body.length);
    bytes.set(headers, at + LENGTHS_BYTES);
    bytes.set(body, at + LENGTHS_BYTES + headers.length);
    at += LENGTHS_BYTES + headers.length + body.length;
  }
  return bytes;
}

/** Takes a batch apart; the bodies share its memory. Throws a `SyntaxError` that says what is wrong. */
export function decodeBatch(bytes: Uint8Array): BatchMessage[] {
  if (!isBatch(bytes)) throw new SyntaxError(`unknown batch version ${bytes[0] ?? 'none'}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: BatchMessage[] = [];
  for (let at = 1; at < bytes.length;) {
    if (messages.length === MAX_BATCH_MESSAGES) throw new SyntaxError(`the batch has more than ${MAX_BATCH_MESSAGES} messages`);
    if (at + LENGTHS_BYTES > bytes.length) throw new SyntaxError(`the batch is truncated at byte ${at}`);
    const start = at + LENGTHS_BYTES;
    const bodyStart = start + view.getUint32(at);
    const end = bodyStart + view.getUint32(at + 4);
    if (end > bytes.length) throw new SyntaxError(`the message at byte ${at} goes beyond the end of the batch`);
    messages.push({ headers: headersOf(bytes.subarray(start, bodyStart)), body: bytes.subarray(bodyStart, end) });
    at = end;
  }
  if (messages.length === 0) throw new SyntaxError('the batch is empty');
  return messages;
}

function headersOf(bytes: Uint8Array): Record<string, unknown> {
  let headers: unknown;
  try {
    headers = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new SyntaxError('the headers of a message in the batch are not JSON', { cause: error });
  }
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    throw new SyntaxError('the headers of a message in the batch are not an object');
  }
  return headers as Record<string, unknown>;
}

/** Groups messages, in their order, into batches of at most `maxMessages` messages and {@link MAX_BATCH_BYTES}. */
export function groupIntoBatches<T extends BatchMessage>(messages: readonly T[], maxMessages: number): T[][] {
  const batches: T[][] = [];
  let bytes = 0;
  for (const message of messages) {
    const current = batches.at(-1);
    bytes += message.body.length;
    if (current && current.length < Math.min(maxMessages, MAX_BATCH_MESSAGES) && bytes <= MAX_BATCH_BYTES) {
      current.push(message);
    } else {
      batches.push([message]);
      bytes = message.body.length;
    }
  }
  return batches;
}
