import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/**
 * Where a worker process and its children print: two files without a name, opened for appending. Files, not pipes: a write
 * never waits, whatever holds the reader up, and a print of 1 GB takes no memory. The worker empties them between calls;
 * the agent reads them when the worker is lost, and empties them while they are far too large.
 */

export interface Output {
  stdout: string;
  stderr: string;
}

/** Of both streams together, in bytes; the middle is cut out. */
export const MAX_OUTPUT_BYTES = 64 * 1024;
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const POLL_INTERVAL_MS = 2_000;
const MAX_LOGGED_BYTES = 1024 * 1024;

export class OutputFiles {
  readonly stdout: number;
  readonly stderr: number;
  readonly #timer: NodeJS.Timeout;

  /** `user`: who may open `/dev/stdout` again. */
  constructor(dir: string, user: { uid: number; gid: number } | undefined) {
    const [stdout, stderr] = [openNameless(dir), openNameless(dir)];
    if (user) for (const fd of [stdout, stderr]) fs.fchownSync(fd, user.uid, user.gid);
    this.stdout = stdout;
    this.stderr = stderr;
    this.#timer = setInterval(() => this.#limit(), POLL_INTERVAL_MS).unref();
  }

  /** What was printed; undefined when it is nothing. */
  take(): Output | undefined {
    const [out, err] = [sizeOf(this.stdout), sizeOf(this.stderr)];
    if (out + err === 0) return undefined;
    const errShare = Math.min(err, Math.max(MAX_OUTPUT_BYTES / 2, MAX_OUTPUT_BYTES - out));
    const output = {
      stdout: cut(this.stdout, out, MAX_OUTPUT_BYTES - errShare),
      stderr: cut(this.stderr, err, errShare),
    };
    for (const fd of [this.stdout, this.stderr]) fs.ftruncateSync(fd);
    return output;
  }

  /** Moves what is left to a log. */
  close(logFd: number): void {
    clearInterval(this.#timer);
    for (const fd of [this.stdout, this.stderr]) {
      const length = Math.min(sizeOf(fd), MAX_LOGGED_BYTES);
      if (length > 0) fs.writeSync(logFd, readAt(fd, length, 0));
      fs.closeSync(fd);
    }
  }

  #limit(): void {
    for (const fd of [this.stdout, this.stderr]) {
      const size = sizeOf(fd);
      if (size <= MAX_FILE_BYTES) continue;
      fs.ftruncateSync(fd);
      fs.writeSync(fd, `[... ${size} bytes ...]\n`);
    }
  }
}

function openNameless(dir: string): number {
  const name = path.join(dir, `.output-${randomUUID()}`);
  const fd = fs.openSync(name, 'ax+', 0o600);
  fs.unlinkSync(name);
  return fd;
}

const sizeOf = (fd: number): number => fs.fstatSync(fd).size;

function readAt(fd: number, length: number, position: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, position));
}

function cut(fd: number, size: number, share: number): string {
  if (size <= share) return textOf(readAt(fd, size, 0));
  const half = Math.floor(share / 2);
  return `${textOf(readAt(fd, half, 0))}\n[... ${size - 2 * half} bytes ...]\n${textOf(readAt(fd, half, size - half))}`;
}

const textOf = (bytes: Buffer): string => bytes.toString('utf8').replaceAll('\0', '\uFFFD');
