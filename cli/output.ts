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

/** Columns as wide as their longest cell; the last one is not padded. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [head, ...rows]) {
    const cells = row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)));
    print(cells.join('  ').trimEnd());
  }
}

/** One `name: value` a line, in a column. */
export function printFields(fields: readonly (readonly [string, string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields) print(`${name.padEnd(width)}  ${value}`);
}

/** `2026-11-24 10:05:00` of an ISO time. */
export const showTime = (iso: string): string => iso.slice(0, 19).replace('T', ' ');
