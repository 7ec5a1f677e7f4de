import { REFERENCE_KEY, type ReferenceDocument } from '../contracts/calls';
import { NeedsReference } from './errors';

/** JSON values, and what stands for one that rests in the store. */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
export const isJsonObject = (value: Json | undefined): value is JsonObject => isObject(value);

/** An own key only: `constructor` and `__proto__` are names like any other. */
export const has = (object: object, key: string): boolean => Object.prototype.hasOwnProperty.call(object, key);

/** Sets a key of any name; plain assignment would lose `__proto__`. */
export function put(object: JsonObject, key: string, value: Json): void {
  if (key === '__proto__') Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  else object[key] = value;
}

export const isReference = (value: unknown): value is ReferenceDocument =>
  isObject(value) && has(value, REFERENCE_KEY) && value[REFERENCE_KEY] === 'ref' && typeof value.taskId === 'string';

/** Results that were loaded from the store, by task id. */
export type Loaded = ReadonlyMap<string, Json>;

/** The value itself where something looks into it; passing a value on needs no `force`. */
export function force(value: Json, loaded: Loaded): Json {
  if (!isReference(value)) return value;
  const found = loaded.get(value.taskId);
  if (found === undefined) throw new NeedsReference(value.taskId);
  return found;
}

export interface Measure {
  /** Characters of its JSON, roughly. */
  size: number;
  depth: number;
}

/** Without recursion, so that a value of any depth can be measured. */
export function measure(value: unknown): Measure {
  let size = 0;
  let depth = 0;
  const todo: [unknown, number][] = [[value, 1]];
  for (let next = todo.pop(); next; next = todo.pop()) {
    const [one, level] = next;
    if (level > depth) depth = level;
    if (typeof one === 'string') size += one.length + 2;
    else if (Array.isArray(one)) {
      size += one.length + 2;
      for (const item of one) todo.push([item, level + 1]);
    } else if (typeof one === 'object' && one !== null) {
      size += 2;
      for (const [key, item] of Object.entries(one)) {
        size += key.length + 4;
        todo.push([item, level + 1]);
      }
    } else size += 5;
  }
  return { size, depth };
}
