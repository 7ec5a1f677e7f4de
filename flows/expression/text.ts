import { isJsonObject, type Json } from '../values';

/** Strings as Python sees them: in code points, and values as `str` and `repr` write them. */

const HAS_SURROGATES = /[\ud800-\udfff]/;

export const codePoints = (text: string): string[] => (HAS_SURROGATES.test(text) ? [...text] : text.split(''));
export const lengthOf = (text: string): number => (HAS_SURROGATES.test(text) ? [...text].length : text.length);

/** By code point; UTF-16 would sort astral characters before U+E000. */
export function compareText(a: string, b: string): number {
  if (!HAS_SURROGATES.test(a) && !HAS_SURROGATES.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  const left = [...a];
  const right = [...b];
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const difference = left[at]!.codePointAt(0)! - right[at]!.codePointAt(0)!; // at is below both lengths
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
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

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const char of text) {
    const code = char.codePointAt(0)!; // a character has one
    if (char === quote) out += `\\${char}`;
    else if (NAMED[char] !== undefined) out += NAMED[char];
    else if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0xad) out += `\\x${code.toString(16).padStart(2, '0')}`;
    else out += char;
  }
  return out + quote;
}

export function typeName(value: Json): string {
  if (value === null) return 'None';
  if (Array.isArray(value)) return 'a list';
  if (isJsonObject(value)) return 'an object';
  return { boolean: 'a boolean', number: 'a number', string: 'a string' }[typeof value as 'boolean' | 'number' | 'string'];
}
