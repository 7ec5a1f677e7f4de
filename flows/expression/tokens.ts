import { parsePath, PathSyntaxError, type Path } from '../paths';
import { ExpressionSyntaxError } from './syntax';

/** Words of an expression, as Python writes them, and paths between back quotes. */

export type Token = { at: number } & (
  | { kind: 'number'; value: number }
  | { kind: 'string'; value: string }
  | { kind: 'path'; path: Path }
  | { kind: 'name' | 'symbol'; text: string }
  | { kind: 'end'; text: '' }
);

const SPACE = /(?:\s|#[^\n]*|\\\r?\n)+/y;
const NUMBER =
  /0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9]+)?/y;
const NAME = /[\p{L}_][\p{L}\p{N}_]*/uy;
const SYMBOL = /\*\*|\/\/|==|!=|<=|>=|:=|[-+*/%<>()[\]{},:.=~&|^@;!]/y;
const STRING_START = /(?:[rRuUbBfF]{0,2})("""|'''|"|')/y;
const ESCAPES: Record<string, string> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\n': '',
  '0': '\0',
};

export function readTokens(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  for (;;) {
    at += take(SPACE)?.[0].length ?? 0;
    const start = at;
    if (at >= text.length) {
      tokens.push({ kind: 'end', text: '', at });
      return tokens;
    }
    const quote = take(STRING_START);
    if (quote) {
      const { value, end } = readString(text, start, quote[0].slice(0, -quote[1]!.length), quote[1]!); // the pattern has one group
      tokens.push({ kind: 'string', value, at: start });
      at = end;
      continue;
    }
    if (text[at] === '`') {
      const end = text.indexOf('`', at + 1);
      if (end < 0) throw new ExpressionSyntaxError('a back quote is not closed', start);
      tokens.push({ kind: 'path', path: pathOf(text.slice(at + 1, end), start), at: start });
      at = end + 1;
      continue;
    }
    const number = take(NUMBER);
    if (number) {
      at += number[0].length;
      tokens.push({ kind: 'number', value: numberOf(number[0], start), at: start });
      if (/[\p{L}_]/u.test(text[at] ?? '')) throw new ExpressionSyntaxError('a letter or "_" must not follow a number', at);
      continue;
    }
    const name = take(NAME);
    const symbol = name ? null : take(SYMBOL);
    const word = name?.[0] ?? symbol?.[0];
    if (word === undefined) throw new ExpressionSyntaxError(`the character ${JSON.stringify(text[at])} has no meaning here`, at);
    tokens.push({ kind: name ? 'name' : 'symbol', text: word, at: start });
    at += word.length;
  }
}

function pathOf(text: string, at: number): Path {
  try {
    return parsePath(text.trim());
  } catch (error) {
    if (error instanceof PathSyntaxError) throw new ExpressionSyntaxError(error.message, at);
    throw error;
  }
}

function numberOf(text: string, at: number): number {
  const digits = text.replaceAll('_', '');
  if (/^0[0-9]*[1-9]/.test(digits) && /^[0-9]+$/.test(digits)) {
    throw new ExpressionSyntaxError('a whole number has no zeros in front', at);
  }
  const value = Number(digits);
  if (!Number.isFinite(value)) throw new ExpressionSyntaxError('the number is too large', at);
  return value;
}

function readString(text: string, start: number, prefix: string, quote: string): { value: string; end: number } {
  const flags = prefix.toLowerCase();
  if (/[bf]/.test(flags)) throw new ExpressionSyntaxError('strings with b or f in front are not available', start);
  const isRaw = flags.includes('r');
  let value = '';
  for (let at = start + prefix.length + quote.length; at < text.length;) {
    if (text.startsWith(quote, at)) return { value, end: at + quote.length };
    const char = text[at]!; // at < text.length
    if (char === '\n' && quote.length === 1) break;
    if (char !== '\\') {
      value += char;
      at++;
      continue;
    }
    const next = text[at + 1] ?? '';
    if (isRaw) {
      value += char + next;
      at += 2;
      continue;
    }
    const code = /^\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/.exec(text.slice(at, at + 10));
    if (code) {
      const point = parseInt(code[1] ?? code[2] ?? code[3] ?? '', 16);
      if (point > 0x10ffff) throw new ExpressionSyntaxError('the escape names no Unicode character: the last one is 10FFFF', at);
      value += String.fromCodePoint(point);
      at += code[0].length;
      continue;
    }
    if (/[xuUN]/.test(next) || /[0-7]{2}/.test(text.slice(at + 1, at + 3)) || /[1-7]/.test(next)) {
      throw new ExpressionSyntaxError(`the escape \\${next} is not available; write \\x, \\u or \\U with all its digits`, at);
    }
    // As in Python, an unknown escape keeps its backslash.
    value += ESCAPES[next] ?? char + next;
    at += 2;
  }
  throw new ExpressionSyntaxError('a string is not closed', start);
}
