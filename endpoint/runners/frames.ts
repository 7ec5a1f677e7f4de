/**
 * Frames between the agent and its worker processes: two big-endian 32-bit lengths, a JSON header, a UTF-8 body.
 * The body is outside the JSON, so that a large buffer is neither escaped nor parsed.
 */

const LENGTHS_BYTES = 8;

export interface WorkerFrame {
  header: unknown;
  body: string;
}

export function encodeWorkerFrame(header: object, body: string): Buffer {
  const head = JSON.stringify(header);
  const headBytes = Buffer.byteLength(head);
  const bodyBytes = Buffer.byteLength(body);
  const frame = Buffer.allocUnsafe(LENGTHS_BYTES + headBytes + bodyBytes);
  frame.writeUInt32BE(headBytes, 0);
  frame.writeUInt32BE(bodyBytes, 4);
  frame.write(head, LENGTHS_BYTES);
  frame.write(body, LENGTHS_BYTES + headBytes);
  return frame;
}

/** Splits a stream of chunks into frames. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = LENGTHS_BYTES;

  /** Adds a chunk and returns the frames that it completes. */
  push(chunk: Buffer): WorkerFrame[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const frames: WorkerFrame[] = [];
    while (this.#length >= this.#needed) {
      const bytes = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
      const headEnd = LENGTHS_BYTES + bytes.readUInt32BE(0);
      const end = headEnd + bytes.readUInt32BE(4);
      if (bytes.length < end) {
        this.#chunks = [bytes];
        this.#needed = end; // do not join the chunks of a large body again before it is complete
        break;
      }
      const header: unknown = JSON.parse(bytes.toString('utf8', LENGTHS_BYTES, headEnd));
      frames.push({ header, body: bytes.toString('utf8', headEnd, end) });
      const rest = bytes.subarray(end);
      this.#chunks = rest.length > 0 ? [rest] : [];
      this.#length = rest.length;
      this.#needed = LENGTHS_BYTES;
    }
    return frames;
  }
}
