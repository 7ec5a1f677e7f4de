import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { TerminalError } from '../../contracts/errors';

/** `JSON.parse` in slices, with limits on depth and number of values: 60 MB of `{}` would block the event loop for seconds. */

export interface JsonLimits {
  maxDepth: number;
  maxStrings: number;
  /** Maximum number of values that are not strings: objects, arrays, numbers, booleans and nulls. */
  maxOthers: number;
}

const SLICE_MS = 4;
/** Steps between two readings of the clock. */
const CLOCK_STEPS = 256;
const PLAIN_BYTES = 128;
const MAX_SCALAR_CHARS = 1_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

type Container = unknown[] | Record<string, unknown>;
type Expected = 'value' | 'value or end' | 'key' | 'key or end' | 'colon' | 'comma or end' | 'nothing';

export async function parseJson(bytes: Buffer, limits: JsonLimits, sliceMs = SLICE_MS): Promise<unknown> {
  const reader = new JsonReader(bytes, limits);
  while (!reader.readSlice(sliceMs)) await nextTurn();
  return reader.value;
}

class JsonReader {
  value: unknown;
  #at = 0;
  #expected: Expected = 'value';
  #strings = 0;
  #others = 0;
  readonly #open: Container[] = [];
  readonly #keys: string[] = [];
  /** Position at which to continue the search for the end of a string that the last step did not finish. */
  #stringFrom: number | undefined;

  constructor(
    private readonly bytes: Buffer,
    private readonly limits: JsonLimits,
  ) {
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) this.#at = 3; // byte order mark
  }

  /** Returns true when the whole text is read. */
  readSlice(sliceMs: number): boolean {
    const untilMs = performance.now() + sliceMs;
    for (let step = 1; ; step++) {
      if (step % CLOCK_STEPS === 0 && performance.now() > untilMs) return false;
      const before = this.#at;
      if (!this.#readToken()) return true;
      if (this.#at - before > 65_536 && performance.now() > untilMs) return false;
    }
  }

  /** Returns false at the end of the text. */
  #readToken(): boolean {
    if (this.#stringFrom !== undefined) {
      this.#readString(this.#at);
      return true;
    }
    const byte = this.#skipSpace();
    if (byte === undefined) {
      if (this.#expected !== 'nothing') throw this.#malformed();
      return false;
    }
    switch (this.#expected) {
      case 'nothing':
        throw this.#malformed();
      case 'colon':
        if (byte !== COLON) throw this.#malformed();
        this.#at++;
        this.#expected = 'value';
        return true;
      case 'comma or end':
        if (byte === COMMA) {
          this.#at++;
          this.#expected = Array.isArray(this.#open.at(-1)) ? 'value' : 'key';
        } else this.#close(byte);
        return true;
      case 'key':
      case 'key or end':
        if (byte === QUOTE) this.#readString(this.#at);
        else if (this.#expected === 'key or end') this.#close(byte);
        else throw this.#malformed();
        return true;
      case 'value':
      case 'value or end':
        if (byte === CLOSE_ARRAY && this.#expected === 'value or end') this.#close(byte);
        else this.#readValue(byte);
        return true;
    }
  }

  #readValue(byte: number): void {
    if (byte === QUOTE) return this.#readString(this.#at);
    if (++this.#others > this.limits.maxOthers) throw this.#tooMany(`${this.limits.maxOthers} values`);
    if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      if (this.#open.length >= this.limits.maxDepth) {
        throw new TerminalError(
          'INVALID_REQUEST',
          `the JSON of the request is nested more than ${this.limits.maxDepth} levels deep; flatten it`,
        );
      }
      const container: Container = byte === OPEN_ARRAY ? [] : {};
      this.#add(container);
      this.#open.push(container);
      this.#expected = byte === OPEN_ARRAY ? 'value or end' : 'key or end';
      this.#at++;
      return;
    }
    let end = this.#at;
    // The index of `this.bytes[end]!` is in range.
    while (end < this.bytes.length && !isDelimiter(this.bytes[end]!) && end - this.#at <= MAX_SCALAR_CHARS) end++;
    const value = this.#parse(this.#at, end);
    this.#at = end;
    this.#add(value);
  }

  #readString(start: number): void {
    let end = this.#stringFrom ?? start;
    for (let found = 0; ; found++) {
      if (found === CLOCK_STEPS) {
        this.#stringFrom = end; // Many escaped quotes: continue in the next step.
        return;
      }
      end = this.bytes.indexOf(QUOTE, end + 1);
      if (end < 0) throw this.#malformed();
      let backslashes = 0;
      while (this.bytes[end - 1 - backslashes] === BACKSLASH) backslashes++;
      if (backslashes % 2 === 0) break;
    }
    this.#stringFrom = undefined;
    if (++this.#strings > this.limits.maxStrings) throw this.#tooMany(`${this.limits.maxStrings} strings`);
    const text = this.#isPlain(start + 1, end)
      ? this.bytes.toString('utf8', start + 1, end)
      : (this.#parse(start, end + 1) as string);
    this.#at = end + 1;
    if (this.#expected === 'key' || this.#expected === 'key or end') {
      this.#keys.push(text);
      this.#expected = 'colon';
    } else this.#add(text);
  }

  #add(value: unknown): void {
    const container = this.#open.at(-1);
    if (container === undefined) {
      this.value = value;
      this.#expected = 'nothing';
      return;
    }
    if (Array.isArray(container)) container.push(value);
    else {
      const key = this.#keys.pop()!; // A value in an object follows its key.
      if (key === '__proto__')
        Object.defineProperty(container, key, { value, enumerable: true, writable: true, configurable: true });
      else container[key] = value;
    }
    this.#expected = 'comma or end';
  }

  #close(byte: number): void {
    const container = this.#open.pop();
    if (container === undefined || byte !== (Array.isArray(container) ? CLOSE_ARRAY : CLOSE_OBJECT)) throw this.#malformed();
    this.#at++;
    this.#expected = this.#open.length === 0 ? 'nothing' : 'comma or end';
  }

  #skipSpace(): number | undefined {
    let byte = this.bytes[this.#at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = this.bytes[++this.#at];
    return byte;
  }

  /** True for a short string without escapes and control characters, as most strings are. The others need JSON.parse. */
  #isPlain(start: number, end: number): boolean {
    if (end - start > PLAIN_BYTES) return false;
    for (let at = start; at < end; at++) {
      const byte = this.bytes[at]!; // at is in range
      if (byte < 0x20 || byte === BACKSLASH) return false;
    }
    return true;
  }

  #parse(start: number, end: number): unknown {
    try {
      return JSON.parse(this.bytes.toString('utf8', start, end)) as unknown;
    } catch (error) {
      throw this.#malformed(error);
    }
  }

  #malformed(cause?: unknown): TerminalError {
    return new TerminalError('INVALID_REQUEST', `the request body is not valid JSON at byte ${this.#at}`, { cause });
  }

  #tooMany(what: string): TerminalError {
    return new TerminalError('PAYLOAD_TOO_LARGE', `the JSON of the request has more than ${what}; send less in one request`);
  }
}

function isDelimiter(byte: number): boolean {
  return (
    byte === COMMA ||
    byte === CLOSE_ARRAY ||
    byte === CLOSE_OBJECT ||
    byte === 0x20 ||
    byte === 0x0a ||
    byte === 0x0d ||
    byte === 0x09
  );
}
