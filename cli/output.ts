import { DEFAULT_UP } from '../local/setup/options';

import type { Command } from 'commander';

/** What most commands share: where the system is, and how to print. */
export interface CommonOptions {
  dataDir: string;
  json?: boolean;
}

export function addCommonOptions(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'the data folder of the system', DEFAULT_UP.dataDir)
    .option('--json', 'print JSON, for programs');
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Replaces control characters, so that text from another person cannot control the terminal. */
export const printable = (text: string): string => text.replace(/[^\P{C}\n\t]/gu, '\u00b7');

/** Columns as wide as their longest cell; the last is not padded. `paint` adds colours to a padded cell, in a terminal. */
export function printTable(
  head: readonly string[],
  given: readonly (readonly string[])[],
  paint: (cell: string, column: number) => string = (cell) => cell,
): void {
  const rows = given.map((row) => row.map(printable));
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const fit = (row: readonly string[], column: number): string =>
    column === row.length - 1 ? '' : ' '.repeat((widths[column] ?? 0) - (row[column]?.length ?? 0));
  print(head.map((title, column) => title + fit(head, column)).join('  '));
  for (const row of rows) {
    const cells = row.map((cell, column) => paint(cell, column) + fit(row, column));
    print(cells.join('  ').trimEnd());
  }
}

/** Prints one name and its value per line, the values in a column. `paint` adds colours to a value, in a terminal. */
export function printFields(
  fields: readonly (readonly [string, string])[],
  paint: (value: string, name: string) => string = (value) => value,
): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields) print(`${name.padEnd(width)}  ${paint(printable(value), name)}`);
}

/** Formats an ISO time in the reader's time zone, such as `2026-11-24 10:05:00 CET`. */
export function showTime(iso: string): string {
  const date = new Date(iso);
  const two = (part: number): string => String(part).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zoneOf(date)}`;
}

function zoneOf(date: Date): string {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' }).formatToParts(date);
  return parts.find(({ type }) => type === 'timeZoneName')?.value ?? '';
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** `340 ms`, `2.4 s`, `3 min 5 s`, `2 h 14 min`, `3 d 4 h`. */
export function showDuration(ms: number): string {
  const whole = (part: number, unit: number): number => Math.floor(part / unit);
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < MINUTE_MS) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < HOUR_MS) return `${whole(ms, MINUTE_MS)} min ${whole(ms % MINUTE_MS, 1_000)} s`;
  if (ms < DAY_MS) return `${whole(ms, HOUR_MS)} h ${whole(ms % HOUR_MS, MINUTE_MS)} min`;
  return `${whole(ms, DAY_MS)} d ${whole(ms % DAY_MS, HOUR_MS)} h`;
}

/** Colours are for people: in a terminal, and not where NO_COLOR (https://no-color.org) is set. */
const hasColours = (): boolean => process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
const coloured = (code: number, text: string): string => (hasColours() ? `\x1b[${code}m${text}\x1b[0m` : text);

export const failing = (text: string): string => coloured(31, text);
export const good = (text: string): string => coloured(32, text);
