/** Frames of workers: two big-endian 32-bit lengths, a JSON header, a UTF-8 body (outside the JSON, so never escaped). */

const LENGTHS_BYTES = 8;
/** More than a header with all of its output, names and representations can have. */
const MAX_HEADER_BYTES = 4 * 1024 * 1024;

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

/** Splits a stream of chunks into frames. Function code can write to the stream too, so the lengths are not trusted. */
export class FrameReader {
  maxBodyBytes = Infinity;
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = LENGTHS_BYTES;

  /** Adds a chunk and returns the frames that it completes. Throws for a frame that is too large. */
  push(chunk: Buffer): WorkerFrame[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const frames: WorkerFrame[] = [];
    while (this.#length >= this.#needed) {
      const bytes = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
      const [headBytes, bodyBytes] = [bytes.readUInt32BE(0), bytes.readUInt32BE(4)];
      if (headBytes > MAX_HEADER_BYTES || bodyBytes > this.maxBodyBytes) {
        throw new Error(`a frame with a header of ${headBytes} bytes and a body of ${bodyBytes} bytes is too large`);
      }
      const headEnd = LENGTHS_BYTES + headBytes;
      const end = headEnd + bodyBytes;
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
