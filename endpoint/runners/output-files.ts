import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/**
 * Standard output and error of a worker process and its children: two unlinked files, opened for appending. With files instead
 * of pipes, a write never waits for a reader, and printing 1 GB needs no memory. The worker empties the files between calls. The
 * agent reads them when the worker is lost, and truncates files that are far too large.
 */

export interface Output {
  stdout: string;
  stderr: string;
}

/** Limit for both streams together, in bytes. The middle of a longer output is cut out. */
export const MAX_OUTPUT_BYTES = 64 * 1024;
const MAX_FILE_BYTES = 256 * 1024 * 1024;
/** Less than `cut` shows of the start of a stream, so that the note about dropped bytes is always shown. */
const KEPT_START_BYTES = MAX_OUTPUT_BYTES / 8;
const POLL_INTERVAL_MS = 2_000;
const MAX_LOGGED_BYTES = 1024 * 1024;

export class OutputFiles {
  readonly stdout: number;
  readonly stderr: number;
  readonly #timer: NodeJS.Timeout;

  /** `user`: the user of the worker, who must be able to open `/dev/stdout`. */
  constructor(dir: string, user: { uid: number; gid: number } | undefined) {
    const [stdout, stderr] = [openNameless(dir), openNameless(dir)];
    if (user) for (const fd of [stdout, stderr]) fs.fchownSync(fd, user.uid, user.gid);
    this.stdout = stdout;
    this.stderr = stderr;
    this.#timer = setInterval(() => this.#limit(), POLL_INTERVAL_MS).unref();
  }

  /** Returns the output and empties the files. Returns undefined if nothing was printed. */
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

  /** Appends the remaining output to a log and closes the files. */
  close(logFd: number): void {
    clearInterval(this.#timer);
    for (const fd of [this.stdout, this.stderr]) {
      const length = Math.min(sizeOf(fd), MAX_LOGGED_BYTES);
      if (length > 0) fs.writeSync(logFd, readAt(fd, length, 0));
      fs.closeSync(fd);
    }
  }

  #limit(): void {
    for (const fd of [this.stdout, this.stderr]) limitFile(fd, MAX_FILE_BYTES, KEPT_START_BYTES);
  }
}

/** Cuts a file above `maxBytes` to its first bytes and appends a note about the rest. The process appends after the note. */
export function limitFile(fd: number, maxBytes: number, keptBytes: number): void {
  const size = sizeOf(fd);
  if (size <= maxBytes) return;
  const earlier = /^\n\[\.\.\. (\d+) bytes \.\.\.\]\n/.exec(readAt(fd, 64, keptBytes).toString('latin1'));
  const dropped = size - keptBytes - (earlier?.[0].length ?? 0) + Number(earlier?.[1] ?? 0);
  fs.ftruncateSync(fd, keptBytes);
  fs.writeSync(fd, dropNote(dropped));
}

const dropNote = (bytes: number): string => `\n[... ${bytes} bytes ...]\n`;

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
  return `${textOf(readAt(fd, half, 0))}${dropNote(size - 2 * half)}${textOf(readAt(fd, half, size - half))}`;
}

const textOf = (bytes: Buffer): string => bytes.toString('utf8').replaceAll('\0', '\uFFFD');
