import { appendFileSync, existsSync, readFileSync } from 'node:fs';

/**
 * What a submitter knows, as it writes it down itself, one JSON object a line. The checker believes these logs and the
 * engines, and never asks the product.
 */

export type SubmitterEvent =
  /** The service gave the call this task ID. */
  | { event: 'accepted'; key: string; task: string }
  /** The call's future settled: with a value, or with an error. */
  | { event: 'settled'; key: string; value: string }
  | { event: 'settled'; key: string; error: string }
  /** The client gave up before the service had accepted the call, as far as the client knows. */
  | { event: 'refused'; key: string; error: string }
  /** The client cannot go on in this process, for a reason that its protocol document names. */
  | { event: 'broken'; reason: string }
  /** A fresh process read the answer of a call that another process had submitted. */
  | { event: 'reattached'; task: string; value: string }
  | { event: 'reattached'; task: string; error: string };

/** Longer values are padding. */
const LONGEST = 4_000;

export function writeEvent(file: string, event: SubmitterEvent): void {
  const cut = Object.fromEntries(
    Object.entries(event).map(([name, value]) => [name, value.length > LONGEST ? value.slice(0, LONGEST) : value]),
  );
  appendFileSync(file, `${JSON.stringify({ at: Date.now(), ...cut })}\n`);
}

/** A line that a killed process did not finish is not an event. */
export function readEvents(file: string): (SubmitterEvent & { at: number })[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as SubmitterEvent & { at: number });
}
