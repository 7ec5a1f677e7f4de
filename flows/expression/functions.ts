import { isJsonObject, type Json } from '../values';
import type { Budget } from './budget';
import { asNumber, keysOf, order, truth } from './compare';
import { intrinsicError } from './intrinsic-error';
import { codePoints, indexOfPart, lastIndexOfPart, lengthOf, repr, splitAt, str, typeName } from './text';

/** The functions and methods that do not look at the state. Their arguments were counted by the parser. */

export type Plain = (args: Json[], budget: Budget, named: Record<string, Json>) => Json;

export const plainFunctions: Record<string, Plain> = {
  pathsplit: ([path]) => splitPath(text(path, 'pathsplit')),
  len: ([value], budget) => {
    if (typeof value === 'string') return lengthOf(value);
    if (Array.isArray(value)) return value.length;
    if (isJsonObject(value)) return keysOf(value, budget).length;
    throw intrinsicError(`${typeName(value ?? null)} has no length`);
  },
  str: ([value], budget) => (value === undefined ? '' : written(value, budget)),
  int: ([value]) => (value === undefined ? 0 : toInt(value)),
  float: ([value]) => (value === undefined ? 0 : toFloat(value)),
  bool: ([value], budget) => value !== undefined && truth(value, budget),
  min: (args, budget) => extreme('min', args, budget, (difference) => difference < 0),
  max: (args, budget) => extreme('max', args, budget, (difference) => difference > 0),
  sum: ([values, start], budget) => {
    budget.countOperation(items(values, 'sum').length);
    return finite(items(values, 'sum').reduce<number>((total, one) => total + number(one, 'sum'), number(start ?? 0, 'sum')));
  },
  abs: ([value]) => Math.abs(number(value, 'abs')),
  round: ([value, digits]) => round(number(value, 'round'), digits === undefined || digits === null ? 0 : whole(digits, 'round')),
  sorted: ([values], budget, { reverse }) => {
    const list =
      typeof values === 'string' ? codePoints(values) : isJsonObject(values) ? keysOf(values, budget) : items(values, 'sorted');
    budget.reserve(list.length);
    const isReverse = reverse !== undefined && truth(reverse, budget);
    return [...list].sort((a, b) => (isReverse ? order(b, a, budget) : order(a, b, budget)));
  },
  any: ([values], budget) => {
    budget.countOperation(items(values, 'any').length);
    return items(values, 'any').some((one) => truth(one, budget));
  },
  all: ([values], budget) => {
    budget.countOperation(items(values, 'all').length);
    return items(values, 'all').every((one) => truth(one, budget));
  },
};

export const stringMethods: Record<string, (self: string, args: Json[], budget: Budget) => Json> = {
  strip: (self, [chars]) => trimEnd(trimStart(self, chars), chars),
  lstrip: (self, [chars]) => trimStart(self, chars),
  rstrip: (self, [chars]) => trimEnd(self, chars),
  startswith: (self, [start]) => self.startsWith(text(start, 'startswith')),
  endswith: (self, [end]) => self.endsWith(text(end, 'endswith')),
  removeprefix: (self, [start]) => (self.startsWith(text(start, 'removeprefix')) ? self.slice(text(start, '').length) : self),
  removesuffix: (self, [end]) => {
    const suffix = text(end, 'removesuffix');
    return suffix !== '' && self.endsWith(suffix) ? self.slice(0, -suffix.length) : self;
  },
  partition: (self, [separator]) => {
    const at = indexOfPart(self, separatorOf(separator, 'partition'));
    return at < 0 ? [self, '', ''] : [self.slice(0, at), text(separator, ''), self.slice(at + text(separator, '').length)];
  },
  rpartition: (self, [separator]) => {
    const at = lastIndexOfPart(self, separatorOf(separator, 'rpartition'));
    return at < 0 ? ['', '', self] : [self.slice(0, at), text(separator, ''), self.slice(at + text(separator, '').length)];
  },
  split: (self, [separator, limit]) => split(self, separator ?? null, limit === undefined ? -1 : whole(limit, 'split')),
  rsplit: (self, [separator, limit]) => {
    const most = limit === undefined ? -1 : whole(limit, 'rsplit');
    if (most < 0) return split(self, separator ?? null, most);
    return rightSplit(self, separator ?? null, most);
  },
  join: (self, [values], budget) => {
    if (Array.isArray(values)) budget.countOperation(values.length / 10);
    const list = typeof values === 'string' ? codePoints(values) : items(values, 'join').map((one) => text(one, 'join'));
    budget.reserve(list.reduce((total, one) => total + one.length + self.length, 0));
    return list.join(self);
  },
  replace: (self, [old, by], budget) => {
    const parts = text(old, 'replace') === '' ? ['', ...codePoints(self), ''] : splitAt(self, text(old, ''));
    budget.reserve(self.length + parts.length * text(by, 'replace').length);
    return parts.join(text(by, ''));
  },
  lower: (self) => self.toLowerCase(),
  upper: (self) => self.toUpperCase(),
  find: (self, [part]) => place(self, indexOfPart(self, text(part, 'find'))),
  rfind: (self, [part]) => place(self, lastIndexOfPart(self, text(part, 'rfind'))),
  count: (self, [part]) => (text(part, 'count') === '' ? lengthOf(self) + 1 : splitAt(self, text(part, '')).length - 1),
  isdigit: (self) => /^\p{Nd}+$/u.test(self),
  zfill: (self, [width], budget) => {
    const missing = whole(width, 'zfill') - lengthOf(self);
    if (missing <= 0) return self;
    budget.reserve(missing);
    const sign = /^[+-]/.exec(self)?.[0] ?? '';
    return sign + '0'.repeat(missing) + self.slice(sign.length);
  },
};

/** A value as `str` writes it; what it writes is paid for first. */
export function written(value: Json, budget: Budget): string {
  if (typeof value === 'string') return value;
  const result = repr(value);
  budget.reserve(result.length);
  return str(result);
}

export function finite(value: number): number {
  if (!Number.isFinite(value)) throw intrinsicError('the result of a calculation is too large, or not a number');
  return value;
}

export function whole(value: Json | undefined, what: string): number {
  const number = value === undefined ? undefined : asNumber(value);
  if (number === undefined || !Number.isInteger(number))
    throw intrinsicError(`${what} takes a whole number, not ${typeName(value ?? null)}`);
  return number;
}

function number(value: Json | undefined, what: string): number {
  const result = value === undefined ? undefined : asNumber(value);
  if (result === undefined) throw intrinsicError(`${what} takes numbers, not ${typeName(value ?? null)}`);
  return result;
}

function text(value: Json | undefined, what: string): string {
  if (typeof value !== 'string') throw intrinsicError(`${what} takes a string, not ${typeName(value ?? null)}`);
  return value;
}

function items(value: Json | undefined, what: string): Json[] {
  if (!Array.isArray(value)) throw intrinsicError(`${what} takes a list, not ${typeName(value ?? null)}`);
  return value;
}

/** `/a/b` gives `["/a", "b"]`; a home folder, `/~/`, stays whole. */
function splitPath(path: string): Json {
  const at = path.lastIndexOf('/');
  if (at < 0) return ['', path];
  const [folder, name] = [path.slice(0, at), path.slice(at + 1)];
  return folder === '' || folder === '/~' ? [`${folder}/`, name] : [folder, name];
}

function toInt(value: Json): number {
  if (typeof value === 'string') {
    const digits = value.trim();
    if (!/^[+-]?[0-9]+(?:_[0-9]+)*$/.test(digits)) throw intrinsicError(`int cannot read ${JSON.stringify(value.slice(0, 50))}`);
    return finite(Number(digits.replaceAll('_', '')));
  }
  return Math.trunc(number(value, 'int')) + 0;
}

function toFloat(value: Json): number {
  if (typeof value === 'string') {
    const digits = value.trim();
    if (!/^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/.test(digits)) {
      throw intrinsicError(`float cannot read ${JSON.stringify(value.slice(0, 50))}`);
    }
    return finite(Number(digits));
  }
  return number(value, 'float');
}

function extreme(what: string, args: Json[], budget: Budget, isBetter: (difference: number) => boolean): Json {
  const [first] = args;
  const list = args.length > 1 ? args : typeof first === 'string' ? codePoints(first) : items(first, what);
  let best = list[0];
  if (best === undefined) throw intrinsicError(`${what} of an empty list`);
  for (const one of list.slice(1)) if (isBetter(order(one, best, budget))) best = one;
  return best;
}

/** Halves go to the even neighbour. */
function round(value: number, digits: number): number {
  if (digits < 0) {
    const unit = 10 ** Math.min(-digits, 400);
    if (!Number.isFinite(unit)) return 0;
    return round(value / unit, 0) * unit;
  }
  if (digits > 22 || Math.abs(value) >= 1e21) return value;
  // All digits that a double has there, so that a tie is known from what only looks like one.
  const exact = Math.abs(value).toFixed(Math.min(100, digits + 60));
  const cut = exact.indexOf('.') + 1 + digits;
  const kept = digits === 0 ? exact.slice(0, cut - 1) : exact.slice(0, cut);
  const rest = exact.slice(cut);
  const isUp = /^5(0*)$/.test(rest) ? Number(kept.at(-1)) % 2 === 1 : rest >= '5';
  const last = Number(kept);
  const result = isUp ? Number((last + 10 ** -digits).toFixed(digits)) : last;
  return value < 0 ? -result + 0 : result;
}

// What str.isspace knows beside \s.
const MORE_SPACE = '\u001c\u001d\u001e\u001f\u0085';
const SPACE = new RegExp(`[\\s${MORE_SPACE}]`);

function trimStart(self: string, chars: Json | undefined): string {
  const isCut = cutter(chars);
  const list = codePoints(self);
  let from = 0;
  while (from < list.length && isCut(list[from]!)) from++; // from is below the length
  return list.slice(from).join('');
}

function trimEnd(self: string, chars: Json | undefined): string {
  const isCut = cutter(chars);
  const list = codePoints(self);
  let to = list.length;
  while (to > 0 && isCut(list[to - 1]!)) to--; // to - 1 is a place of it
  return list.slice(0, to).join('');
}

function cutter(chars: Json | undefined): (char: string) => boolean {
  if (chars === undefined || chars === null) return (char) => SPACE.test(char);
  const set = new Set(codePoints(text(chars, 'strip')));
  return (char) => set.has(char);
}

function separatorOf(value: Json | undefined, what: string): string {
  const separator = text(value, what);
  if (separator === '') throw intrinsicError(`${what} takes a separator that is not empty`);
  return separator;
}

function split(self: string, separator: Json, limit: number): string[] {
  if (separator !== null) {
    const parts = splitAt(self, separatorOf(separator, 'split'));
    if (limit < 0 || parts.length <= limit + 1) return parts;
    return [...parts.slice(0, limit), parts.slice(limit).join(text(separator, ''))];
  }
  const parts: string[] = [];
  for (let at = 0; ;) {
    while (at < self.length && SPACE.test(self[at]!)) at++; // at is below the length
    if (at >= self.length) return parts;
    if (limit >= 0 && parts.length >= limit) return [...parts, trimEnd(self.slice(at), undefined)];
    const start = at;
    while (at < self.length && !SPACE.test(self[at]!)) at++; // at is below the length
    parts.push(self.slice(start, at));
  }
}

function rightSplit(self: string, separator: Json, limit: number): string[] {
  if (separator !== null) {
    const parts = splitAt(self, separatorOf(separator, 'rsplit'));
    if (parts.length <= limit + 1) return parts;
    const head = parts.slice(0, parts.length - limit).join(text(separator, ''));
    return [head, ...parts.slice(parts.length - limit)];
  }
  const reversed = (one: string): string => codePoints(one).reverse().join('');
  return split(reversed(self), null, limit).map(reversed).reverse();
}

function place(self: string, unit: number): number {
  return unit < 0 ? -1 : lengthOf(self.slice(0, unit));
}
