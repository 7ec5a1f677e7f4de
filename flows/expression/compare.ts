import { isJsonObject, has, type Json, type JsonObject } from '../values';
import type { Budget } from './budget';
import { compareText, typeName } from './text';
import { intrinsicError } from './intrinsic-error';

/** Equality, order and truth as Python has them; booleans count as 0 and 1. */

export function asNumber(value: Json): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'boolean' ? Number(value) : undefined;
}

export function truth(value: Json, budget: Budget): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isJsonObject(value)) return keysOf(value, budget).length > 0;
  return Boolean(value);
}

export function equal(a: Json, b: Json, budget: Budget): boolean {
  budget.countOperation();
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left === right;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, at) => equal(item, b[at]!, budget)); // of one length
  if (isJsonObject(a)) {
    if (!isJsonObject(b)) return false;
    const keys = keysOf(a, budget);
    return keys.length === keysOf(b, budget).length && keys.every((key) => has(b, key) && equal(a[key]!, b[key]!, budget)); // both have it
  }
  if (typeof a === 'string' && typeof b === 'string' && a.length === b.length) budget.read(a.length);
  return a === b;
}

/** A list of keys costs about a tenth of an operation for each. */
const KEYS_AN_OPERATION = 10;

export function keysOf(object: JsonObject, budget: Budget): string[] {
  const keys = Object.keys(object);
  budget.countOperation(keys.length / KEYS_AN_OPERATION);
  return keys;
}

export function order(a: Json, b: Json, budget: Budget): number {
  budget.countOperation();
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left < right ? -1 : left > right ? 1 : 0;
  if (typeof a === 'string' && typeof b === 'string') {
    budget.read(Math.min(a.length, b.length));
    return compareText(a, b);
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    for (let at = 0; at < Math.min(a.length, b.length); at++) {
      if (!equal(a[at]!, b[at]!, budget)) return order(a[at]!, b[at]!, budget); // at is below both lengths
    }
    return a.length - b.length;
  }
  throw intrinsicError(`${typeName(a)} and ${typeName(b)} cannot be ordered`);
}
