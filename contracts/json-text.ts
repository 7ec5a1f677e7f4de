import { TerminalError } from './errors';

/**
 * JSON text without silent loss. `JSON.parse` rounds large integers and refuses NaN, which Python writes into its JSON;
 * `JSON.stringify` drops or empties values that JSON cannot hold. Text that no code has to read passes through verbatim.
 * Workflows use this file.
 */

export interface ParseOptions {
  /** Integers beyond 2^53: `refuse` (default) throws, `bigint` returns them as bigint. */
  integers?: 'refuse' | 'bigint';
}

/** Text that may hold what `JSON.parse` changes or refuses: a long number, a large exponent, NaN, Infinity. */
const SUSPICIOUS = /[0-9]{16}|[eE]\+?[0-9]{3}|NaN|Infinity/;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const SPACE = /[ \t\n\r]*/y;
const LITERALS: readonly (readonly [text: string, value: unknown])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', NaN],
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
];

/**
 * Parses JSON, and NaN, Infinity and -Infinity as Python writes them. Throws a SyntaxError for text that is not JSON, and
 * INVALID_REQUEST for a number that JavaScript cannot hold.
 */
export function parseJsonText(text: string, options: ParseOptions = {}): unknown {
  if (!SUSPICIOUS.test(text)) return JSON.parse(text) as unknown;
  return new JsonReader(text, options.integers ?? 'refuse').read();
}

/** True when `JSON.parse` returns every value of the text unchanged. */
export function isExactInJavaScript(text: string): boolean {
  if (!SUSPICIOUS.test(text)) return true;
  try {
    parseJsonText(text);
    JSON.parse(text); // throws for NaN and Infinity
    return true;
  } catch {
    return false;
  }
}

/** The text of a number that JavaScript would write in another way: a long integer, 1.0, NaN, 1e400. */
export class ExactNumber {
  constructor(readonly text: string) {}
}

/** Parses JSON. A number that JavaScript would not write back unchanged becomes an {@link ExactNumber}. */
export function parseExactly(text: string): unknown {
  return new JsonReader(text, 'exact').read();
}

class JsonReader {
  #at = 0;

  constructor(
    private readonly text: string,
    private readonly integers: 'refuse' | 'bigint' | 'exact',
  ) {}

  read(): unknown {
    const value = this.#value();
    if (this.#at < this.text.length) this.#fail();
    return value;
  }

  #value(): unknown {
    this.#match(SPACE);
    const value = this.#bareValue();
    this.#match(SPACE);
    return value;
  }

  #bareValue(): unknown {
    switch (this.text[this.#at]) {
      case '{':
        return this.#object();
      case '[':
        return this.#array();
      case '"':
        return this.#string();
      default:
        return this.#literalOrNumber();
    }
  }

  #object(): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    this.#items('}', () => {
      this.#match(SPACE);
      const key = this.#string();
      this.#match(SPACE);
      this.#expect(':');
      entries.push([key, this.#value()]);
    });
    return Object.fromEntries(entries);
  }

  #array(): unknown[] {
    const values: unknown[] = [];
    this.#items(']', () => values.push(this.#value()));
    return values;
  }

  #items(end: string, item: () => void): void {
    this.#at++;
    this.#match(SPACE);
    if (this.text[this.#at] === end) {
      this.#at++;
      return;
    }
    for (;;) {
      item();
      if (this.text[this.#at] !== ',') break;
      this.#at++;
    }
    this.#expect(end);
  }

  #string(): string {
    const token = this.#match(STRING);
    if (token === undefined) this.#fail();
    return JSON.parse(token) as string; // decodes escapes; throws for control characters, which JSON forbids
  }

  #literalOrNumber(): unknown {
    for (const [literal, value] of LITERALS) {
      if (this.text.startsWith(literal, this.#at)) {
        this.#at += literal.length;
        return this.integers === 'exact' && typeof value === 'number' ? new ExactNumber(literal) : value;
      }
    }
    const token = this.#match(NUMBER);
    if (token === undefined) this.#fail();
    return this.#number(token);
  }

  #number(token: string): number | bigint | ExactNumber {
    const value = Number(token);
    if (this.integers === 'exact') return isWrittenAs(value, token) ? value : new ExactNumber(token);
    const isInteger = /^-?[0-9]+$/.test(token);
    if (isInteger ? Number.isSafeInteger(value) : Number.isFinite(value)) return value;
    if (isInteger && this.integers === 'bigint') return BigInt(token);
    const shown = token.length > 40 ? `${token.slice(0, 40)}...` : token;
    throw new TerminalError(
      'INVALID_REQUEST',
      isInteger
        ? `The integer ${shown} is too large for a JavaScript number. Read it as a bigint, or send it as text.`
        : `The number ${shown} is too large for a JavaScript number. Send it as text.`,
    );
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const [token] = pattern.exec(this.text) ?? [];
    if (token !== undefined) this.#at += token.length;
    return token;
  }

  #expect(char: string): void {
    if (this.text[this.#at] !== char) this.#fail();
    this.#at++;
  }

  #fail(): never {
    const what = this.#at < this.text.length ? `Unexpected ${JSON.stringify(this.text[this.#at])}` : 'Unexpected end';
    throw new SyntaxError(`${what} in JSON at position ${this.#at}`);
  }
}

/** True when {@link stringifyJsonText} writes the number with these characters. */
function isWrittenAs(value: number, token: string): boolean {
  const isUnsafe = Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21;
  return !isUnsafe && String(value) === token;
}

/**
 * Writes JSON; a bigint becomes an integer. Throws INVALID_REQUEST, with the place, for every value that JSON cannot hold:
 * NaN, Infinity, integers beyond 2^53, functions, symbols, Map, Set, binary data, errors, promises and cycles.
 * As in `JSON.stringify`, a property that is undefined is left out, and an undefined element of an array is null.
 */
export function stringifyJsonText(value: unknown, place = 'value', options: { bigints?: 'integer' | 'refuse' } = {}): string {
  return new JsonWriter(options.bigints ?? 'integer').write(value, place, []) ?? 'null';
}

class JsonWriter {
  constructor(private readonly bigints: 'integer' | 'refuse') {}

  write(given: unknown, place: string, parents: readonly unknown[]): string | undefined {
    if (given instanceof ExactNumber) return given.text;
    const value = hasToJson(given) ? given.toJSON() : given;
    switch (typeof value) {
      case 'undefined':
        return undefined;
      case 'bigint':
        return this.bigints === 'integer' ? value.toString() : refuse(place, `is the bigint ${value}`);
      case 'number':
        return writeNumber(value, place);
      case 'function':
        return refuse(place, `is a function (${value.name || 'anonymous'})`);
      case 'symbol':
        return refuse(place, 'is a symbol');
      case 'object':
        return value === null ? 'null' : this.#writeObject(value, place, parents);
      default:
        return JSON.stringify(value);
    }
  }

  #writeObject(value: object, place: string, parents: readonly unknown[]): string {
    if (parents.includes(value)) return refuse(place, 'refers to itself');
    const inside = [...parents, value];
    if (Array.isArray(value)) {
      return `[${Array.from(value as unknown[], (item, index) => this.write(item, `${place}[${index}]`, inside) ?? 'null').join(',')}]`;
    }
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    if (value instanceof Number || value instanceof String || value instanceof Boolean) return JSON.stringify(value);
    if (NOT_JSON.has(tag) || ArrayBuffer.isView(value)) return refuse(place, `is of type ${value.constructor?.name || tag}`);
    const members = Object.entries(value).flatMap(([key, item]) => {
      const text = this.write(item, `${place}.${key}`, inside);
      return text === undefined ? [] : [`${JSON.stringify(key)}:${text}`];
    });
    return `{${members.join(',')}}`;
  }
}

function writeNumber(value: number, place: string): string {
  if (!Number.isFinite(value)) return refuse(place, `is ${value}`);
  // From 1e21 on, JavaScript writes an exponent, which shows the reader that the number is not exact.
  if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21) {
    return refuse(place, `is an integer beyond 2^53 (${value}), which a JavaScript number does not hold exactly; pass a bigint`);
  }
  return JSON.stringify(value);
}

const NOT_JSON = new Set([
  'Map',
  'Set',
  'WeakMap',
  'WeakSet',
  'WeakRef',
  'Promise',
  'RegExp',
  'Error',
  'ArrayBuffer',
  'SharedArrayBuffer',
  'Generator',
  'AsyncGenerator',
]);

function hasToJson(value: unknown): value is { toJSON(): unknown } {
  // A Buffer's toJSON returns an object that no other language reads as bytes.
  return (
    typeof value === 'object' &&
    value !== null &&
    !ArrayBuffer.isView(value) &&
    typeof (value as { toJSON?: unknown }).toJSON === 'function'
  );
}

function refuse(place: string, what: string): never {
  throw new TerminalError('INVALID_REQUEST', `The ${place} ${what}, which JSON cannot hold. Convert it before the call.`);
}
