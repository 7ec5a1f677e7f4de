import { isJsonObject, type Json } from '../values';

/** Strings in the way of Python: indexed by code point, and values as `str` and `repr` write them. */

const HAS_SURROGATES = /[\ud800-\udfff]/;

export const codePoints = (text: string): string[] => (HAS_SURROGATES.test(text) ? [...text] : text.split(''));
/** Returns the text with one code point at each index. A text without surrogates has that form already, so it is not copied. */
export const indexed = (text: string): string | string[] => (HAS_SURROGATES.test(text) ? [...text] : text);

export function lengthOf(text: string): number {
  let pairs = 0;
  for (let at = 1; at < text.length; at++) if (isLow(text.charCodeAt(at)) && isHigh(text.charCodeAt(at - 1))) pairs++;
  return text.length - pairs;
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

/** Code units that are compared at once. */
const COMPARE_UNITS = 4_096;

/** Compares by code point. The order of UTF-16 units would put characters above U+FFFF before U+E000. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  let at = 0;
  // Comparing pieces with === is much faster than a loop over the units.
  while (at + COMPARE_UNITS < length && a.slice(at, at + COMPARE_UNITS) === b.slice(at, at + COMPARE_UNITS)) at += COMPARE_UNITS;
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  if (at === length) return a.length - b.length;
  // The first difference may be the second half of a surrogate pair: compare from its first half.
  const start = at > 0 && isHigh(a.charCodeAt(at - 1)) ? at - 1 : at;
  return a.codePointAt(start)! - b.codePointAt(start)! || a.codePointAt(at)! - b.codePointAt(at)!; // both are below the lengths
}

/** In the worst case, V8's `indexOf` takes time in proportion to text times part. For a part of at most this length, that is fine. */
export const MAX_NATIVE_PART = 16;

export function indexOfPart(text: string, part: string, from = 0): number {
  if (part.length <= MAX_NATIVE_PART) return text.indexOf(part, from);
  return placesOf(text, part, from).next().value ?? -1;
}

export function lastIndexOfPart(text: string, part: string): number {
  if (part.length <= MAX_NATIVE_PART) return text.lastIndexOf(part);
  let last = -1;
  for (const at of placesOf(text, part, 0)) last = at;
  return last;
}

/** As `String.split`, for a separator that is not empty. */
export function splitAt(text: string, separator: string): string[] {
  if (separator.length <= MAX_NATIVE_PART) return text.split(separator);
  const parts: string[] = [];
  let from = 0;
  for (const at of placesOf(text, separator, 0)) {
    if (at < from) continue; // overlaps the one before
    parts.push(text.slice(from, at));
    from = at + separator.length;
  }
  return [...parts, text.slice(from)];
}

/** All indexes of `part`, also overlapping ones, in linear time (Knuth, Morris and Pratt). */
function* placesOf(text: string, part: string, from: number): Generator<number, undefined> {
  // For each index of `part`: the length of the longest proper prefix of `part` that ends there.
  const borders = new Uint32Array(part.length);
  for (let at = 1, length = 0; at < part.length; at++) {
    while (length > 0 && part.charCodeAt(at) !== part.charCodeAt(length)) length = borders[length - 1]!;
    if (part.charCodeAt(at) === part.charCodeAt(length)) length++;
    borders[at] = length;
  }
  for (let at = from, length = 0; at < text.length; at++) {
    while (length > 0 && text.charCodeAt(at) !== part.charCodeAt(length)) length = borders[length - 1]!;
    if (text.charCodeAt(at) === part.charCodeAt(length)) length++;
    if (length < part.length) continue;
    yield at - part.length + 1;
    length = borders[length - 1]!;
  }
  return undefined;
}

export function str(value: Json): string {
  return typeof value === 'string' ? value : repr(value);
}

export function repr(value: Json): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return numberText(value);
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`;
  return `{${Object.entries(value)
    .map(([key, item]) => `${quoted(key)}: ${repr(item)}`)
    .join(', ')}}`;
}

/** JSON does not tell 2 from 2.0, so a whole number is written without a point. */
function numberText(value: number): string {
  if (Number.isInteger(value)) return Object.is(value, -0) ? '0' : BigInt(value).toString();
  const text = String(value);
  // Python switches to exponents below 1e-4 and has two digits there.
  const magnitude = Math.abs(value);
  if (magnitude < 1e-4) {
    const [digits = '', power = ''] = value.toExponential().split('e');
    return `${digits}e-${power.slice(1).padStart(2, '0')}`;
  }
  return text;
}

const NAMED: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
/** What `str.isprintable` of Python excludes: characters without a glyph, and separators other than the blank. */
const UNPRINTABLE = /[\p{C}\p{Z}]/u;

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const char of text) {
    const code = char.codePointAt(0)!; // a character has one
    if (char === quote) out += `\\${char}`;
    else if (NAMED[char] !== undefined) out += NAMED[char];
    else if (char !== ' ' && UNPRINTABLE.test(char)) out += escaped(code);
    else out += char;
  }
  return out + quote;
}

function escaped(code: number): string {
  const [letter, digits] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${code.toString(16).padStart(digits, '0')}`;
}

export function typeName(value: Json): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (isJsonObject(value)) return 'an object';
  return { boolean: 'a boolean', number: 'a number', string: 'a string' }[typeof value as 'boolean' | 'number' | 'string'];
}
