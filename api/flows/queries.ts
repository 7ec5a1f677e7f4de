import { TerminalError } from '../../contracts/errors';
import { isUuid } from '../../contracts/ids';
import type { OrderKey } from '../../platform/store/pages';
import { invalid } from './errors';

/** Translates query parameters to the filters and sort orders of the store. */

/** Sort orders such as `updated_at DESC`; ascending without a direction. */
export function readOrder(
  words: readonly string[],
  fields: Readonly<Record<string, Omit<OrderKey, 'descending'>>>,
  normal: OrderKey,
): OrderKey[] {
  if (words.length === 0) return [normal];
  return words.map((word) => {
    const [, name = '', direction = 'ASC'] = /^(\w+)(?:\s+(ASC|DESC))?$/i.exec(word) ?? [];
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (!field) {
      const msg = `"${word.slice(0, 100)}" is not a sort order; use one of: ${Object.keys(fields).join(', ')}, with ASC or DESC`;
      throw invalid([{ loc: ['orderby'], msg, type: 'value_error' }]);
    }
    return { ...field, descending: direction.toUpperCase() === 'DESC' };
  });
}

/** The clients name roles in the singular, the documentation of the hosted service in the plural. */
export function readRoles<Role extends string>(words: readonly string[] | undefined, roles: readonly Role[]): Role[] | undefined {
  if (!words || words.length === 0) return undefined;
  return words.map((word) => {
    const role = roles.find((one) => one === word || `${one}s` === word);
    if (role) return role;
    const msg = `"${word.slice(0, 100)}" is not a role; use one of: ${roles.join(', ')}`;
    throw invalid([{ loc: ['filter_roles'], msg, type: 'value_error' }]);
  });
}

export function readIds(words: readonly string[] | undefined, field: string): string[] | undefined {
  if (!words || words.length === 0) return undefined;
  return words.map((word) => {
    const id = word.toLowerCase();
    if (isUuid(id)) return id;
    throw invalid([{ loc: [field], msg: `"${word.slice(0, 100)}" is not an id; ids are UUIDs`, type: 'value_error' }]);
  });
}

/** `FROM,TO`; either may be missing. */
export function readPeriod(text: string | undefined, field: string): [Date | undefined, Date | undefined] | undefined {
  if (text === undefined) return undefined;
  const [from, to] = text.split(',').map((part) => {
    if (part.trim() === '') return undefined;
    const time = new Date(part.trim());
    if (!Number.isNaN(time.getTime())) return time;
    throw invalid([{ loc: [field], msg: `"${part.slice(0, 100)}" is not a time; write it as in ISO 8601`, type: 'value_error' }]);
  });
  return [from, to];
}

export function readLogMarker(marker: string | undefined): number | undefined {
  if (marker === undefined) return undefined;
  if (/^\d{1,9}$/.test(marker)) return Number(marker);
  throw new TerminalError('INVALID_REQUEST', 'the marker is not valid for this log; repeat the request without a marker');
}
