import { TerminalError } from '../../contracts/errors';

/** Pages of a list in any order. A marker holds the sort keys of the last row, so rows added meanwhile do not shift the pages. */

export interface OrderKey {
  /** A SQL expression that is never null. */
  sql: string;
  type: 'timestamptz' | 'text' | 'uuid';
  descending: boolean;
}

export interface PageSql {
  /** Columns to select for {@link markerOf}. */
  key: string;
  /** True for rows after the marker. */
  after: string;
  orderBy: string;
}

/** The SQL of a page. `push` adds a parameter to the statement and returns its name. The last key must be unique. */
export function pageSql(keys: readonly OrderKey[], marker: string | undefined, push: (value: unknown) => string): PageSql {
  const orderBy = keys.map(({ sql, descending }) => `${sql} ${descending ? 'desc' : 'asc'}`).join(', ');
  const key = `array[${keys.map(({ sql }) => `(${sql})::text`).join(', ')}] as "pageKey"`;
  if (marker === undefined) return { key, orderBy, after: 'true' };
  const names = readMarker(marker, keys.length).map((value, index) => `${push(value)}::${keys[index]?.type ?? 'text'}`);
  const steps = keys.map(({ sql, descending }, index) => {
    const equal = keys.slice(0, index).map((one, at) => `${one.sql} = ${names[at] ?? ''}`);
    return `(${[...equal, `${sql} ${descending ? '<' : '>'} ${names[index] ?? ''}`].join(' and ')})`;
  });
  return { key, orderBy, after: `(${steps.join(' or ')})` };
}

export const markerOf = (pageKey: readonly string[]): string => Buffer.from(JSON.stringify(pageKey)).toString('base64url');

function readMarker(marker: string, length: number): string[] {
  try {
    const values = JSON.parse(Buffer.from(marker, 'base64url').toString('utf8')) as unknown;
    if (Array.isArray(values) && values.length === length && values.every((value) => typeof value === 'string')) return values;
  } catch {
    // reported below
  }
  throw new TerminalError('INVALID_REQUEST', 'the marker does not belong to this list; start again without a marker');
}
