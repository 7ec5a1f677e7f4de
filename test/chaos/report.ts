import type { Violation } from './check-answers';
import { FAULTS, PARTS, type Step } from './plan';
import type { Outcome } from './run';
import type { Submitter } from './submitter';
import { readEvents } from './submitter-log';

/** What a run prints before and after it. */

const SHOWN = 5;

export function planLines(plan: readonly Step[]): string[] {
  return plan.map(({ part, fault, tasks, meetsWork, delayMs, holdMs }, index) => {
    const lasts = ['freeze', 'memory alarm', 'disk alarm', 'full disk'].includes(fault) ? ` for ${holdMs} ms` : '';
    return `  ${String(index + 1).padStart(3)}. ${tasks} tasks, ${delayMs} ms after ${meetsWork ? 'the first is accepted' : 'their submit'} ${part} ${fault}${lasts}`;
  });
}

export function resultLines(plan: readonly Step[], submitters: readonly Submitter[], outcome: Outcome): string[] {
  return [
    '',
    ...table([
      ['', ...FAULTS],
      ...PARTS.map((part) => [
        part,
        ...FAULTS.map((fault) => String(plan.filter((step) => step.part === part && step.fault === fault).length || '-')),
      ]),
    ]),
    '',
    ...table([
      ['', 'calls', 'accepted', 'settled', 'refused', 'read by a fresh process', 'restarts'],
      ...submitters.map((submitter) => {
        const events = readEvents(submitter.log);
        const of = (name: string): string => String(events.filter(({ event }) => event === name).length);
        const counts = ['accepted', 'settled', 'refused', 'reattached'].map(of);
        return [submitter.name, String(submitter.calls.size), ...counts, String(submitter.restarts)];
      }),
    ]),
    '',
    `${outcome.stored} tasks stored, ${outcome.unknown} of them unknown to their submitter; ${outcome.lost} attempts lost`,
    ...violationLines(outcome.violations),
  ];
}

function violationLines(violations: readonly Violation[]): string[] {
  const rules = [...new Set(violations.map(({ rule }) => rule))];
  return rules.flatMap((rule) => {
    const broken = violations.filter((violation) => violation.rule === rule);
    return [
      `NOT TRUE: ${rule} (${broken.length})`,
      ...broken.slice(0, SHOWN).map(({ what }) => `    ${what}`),
      ...(broken.length > SHOWN ? ['    ...'] : []),
    ];
  });
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
}
