import { readFileSync } from 'node:fs';

import { InvalidArgumentError } from 'commander';

import { ensureError } from '../contracts/errors';
import { isUuid } from '../contracts/ids';
import { parseExactly } from '../contracts/json-text';
import { UserError } from '../local/machine/user-error';

/** Parsers of command-line arguments. An `InvalidArgumentError` means a wrong command line. */

export function parseId(text: string): string {
  const id = text.toLowerCase();
  if (!isUuid(id)) throw new InvalidArgumentError('an id is a UUID, such as 01a20d0e-44fc-8a94-89f5-f7be3a500001.');
  return id;
}

/** Accepts an id, its first characters, or a task as `<submission>/<index>`. */
export function parseIdStart(text: string): string {
  const id = text.toLowerCase();
  if (/^[0-9a-f]{4}[0-9a-f-]{0,32}(\/[1-9]\d{0,5})?$/.test(id)) return id;
  throw new InvalidArgumentError(
    'an id is a UUID, such as 01a20d0e-44fc-8a94-89f5-f7be3a500001, or its first characters, at least 4.',
  );
}

export function parsePositive(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError('give a number above 0.');
  return value;
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('give a whole number above 0.');
  return Number(text);
}

/** Keeps numbers that JavaScript cannot represent as they are written, because the CLI only forwards them. */
export function parseJsonArray(text: string): unknown[] {
  const value = parseJson(text);
  if (!Array.isArray(value)) throw new InvalidArgumentError('give a JSON array, such as [1, "two"].');
  return value;
}

export function parseJsonObject(text: string): Record<string, unknown> {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError('give a JSON object, such as {"n": 1}.');
  }
  return value as Record<string, unknown>;
}

function parseJson(text: string): unknown {
  const json = text.startsWith('@') ? readText(text.slice(1)) : text;
  try {
    return parseExactly(json);
  } catch (error) {
    const what = text.startsWith('@') ? `the file ${text.slice(1)}` : 'the value';
    throw new InvalidArgumentError(`${what} is not JSON: ${ensureError(error).message}.`);
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/^\uFEFF/, ''); // a byte order mark
  } catch {
    throw new InvalidArgumentError(`the file ${file} cannot be read.`);
  }
}

/** Reads a secret from standard input, so that it appears neither in a list of processes nor in the history of a shell. */
export function readSecret(): string {
  const secret = readFileSync(0, 'utf8').trim();
  if (secret === '')
    throw new UserError('There was no secret on standard input; pipe it in, such as: printf %s "$SECRET" | funcx ...');
  return secret;
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Parses a time such as `30s`, `10m`, `2h` or `1d`. Returns seconds. */
export function parseDuration(text: string): number {
  const [, count = '', unit = ''] = /^([1-9]\d{0,7})([smhd])$/.exec(text) ?? [];
  if (count === '') throw new InvalidArgumentError('give a number and a unit, such as 30s, 10m, 2h or 1d.');
  return Number(count) * (UNITS[unit] ?? 1);
}
