import { isJsonObject, has, type Json } from '../values';
import type { Budget } from './budget';
import { compareText, typeName } from './text';
import { intrinsicError } from './intrinsic-error';

/** Equality, order and truth as Python has them; booleans count as 0 and 1. */

export function asNumber(value: Json): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'boolean' ? Number(value) : undefined;
}

export function truth(value: Json): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isJsonObject(value)) return Object.keys(value).length > 0;
  return Boolean(value);
}

export function equal(a: Json, b: Json, budget: Budget): boolean {
  budget.countOperation();
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left === right;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, at) => equal(item, b[at]!, budget)); // of one length
  if (isJsonObject(a)) {
    if (!isJsonObject(b)) return false;
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length && keys.every((key) => has(b, key) && equal(a[key]!, b[key]!, budget)); // both have it
  }
  return a === b;
}

/** Below, at, or above 0. */
export function order(a: Json, b: Json, budget: Budget): number {
  budget.countOperation();
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left < right ? -1 : left > right ? 1 : 0;
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  if (Array.isArray(a) && Array.isArray(b)) {
    for (let at = 0; at < Math.min(a.length, b.length); at++) {
      if (!equal(a[at]!, b[at]!, budget)) return order(a[at]!, b[at]!, budget); // at is below both lengths
    }
    return a.length - b.length;
  }
  throw intrinsicError(`${typeName(a)} and ${typeName(b)} cannot be ordered`);
}
