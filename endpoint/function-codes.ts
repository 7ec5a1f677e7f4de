import { createHash } from 'node:crypto';

import type { TaskData } from '../contracts/frames';

import type { Bodies, FetchedBody } from './bodies';

/** Keeps code by hash. For missing code, fetches the whole body of one task; further tasks with the code wait for it. */

const KEPT_BYTES = 64 * 1024 * 1024;

export class FunctionCodes {
  /** By hash, in order of use: the least recently used code is dropped first. */
  readonly #codes = new Map<string, string>();
  #bytes = 0;
  /** By hash. Each promise resolves when the fetch has ended, whether it succeeded or failed. */
  readonly #fetches = new Map<string, Promise<void>>();

  constructor(
    private readonly bodies: Pick<Bodies, 'fetch'>,
    private readonly keptBytes = KEPT_BYTES,
  ) {}

  /** Returns the complete body of a task. Returns undefined, and throws, as {@link Bodies.fetch} does. */
  async bodyOf(
    { claim, code_hash: hash, task_buffer: payload }: TaskData,
    isWanted: () => boolean,
  ): Promise<FetchedBody | undefined> {
    if (!claim) return { text: payload, release: () => undefined };
    if (hash === undefined) return this.bodies.fetch(claim, isWanted);
    for (let fetch = this.#fetches.get(hash); ; fetch = this.#fetches.get(hash)) {
      const code = this.#use(hash);
      if (code !== undefined) return { text: code + payload, release: () => undefined };
      if (!fetch) break;
      await fetch;
      if (!isWanted()) return undefined;
    }
    const fetched = this.bodies.fetch(claim, isWanted).then((body) => {
      if (body) this.#keep(hash, body.text, payload);
      return body;
    });
    const ended = fetched.then(
      () => undefined,
      () => undefined,
    );
    this.#fetches.set(hash, ended);
    void ended.then(() => this.#fetches.delete(hash));
    return fetched;
  }

  #use(hash: string): string | undefined {
    const code = this.#codes.get(hash);
    if (code !== undefined) {
      this.#codes.delete(hash);
      this.#codes.set(hash, code);
    }
    return code;
  }

  /** The body is the code, followed by the payload that the message carried. */
  #keep(hash: string, body: string, payload: string): void {
    const code = body.slice(0, body.length - payload.length);
    const isThatCode = body.endsWith(payload) && createHash('sha256').update(code).digest('hex') === hash;
    if (!isThatCode || this.#codes.has(hash)) return;
    this.#codes.set(hash, code);
    this.#bytes += code.length;
    for (const [oldest, { length }] of this.#codes) {
      if (this.#bytes <= this.keptBytes) return;
      this.#codes.delete(oldest);
      this.#bytes -= length;
    }
  }
}
