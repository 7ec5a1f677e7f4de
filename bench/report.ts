import { round } from './figures';
import { isMet, medianOf, OURS, ratioOf, type Measure } from './measures';

/** The figures of a run as text: one line for each measure. */
export function tableOf(measures: readonly Measure[]): string {
  const rows = [['what', OURS, 'others', 'ratio (lowest to highest)', 'target']];
  for (const measure of measures) {
    const { part, what, unit, rounds, reference } = measure;
    const others = Object.keys(rounds).filter((who) => who !== OURS);
    const ratio = ratioOf(measure);
    rows.push([
      `${part}: ${what}`,
      `${shown(medianOf(measure, OURS))} ${unit}`,
      others.map((who) => `${who} ${shown(medianOf(measure, who))}`).join(', '),
      ratio ? `${ratio.median} of ${reference} (${ratio.low} to ${ratio.high})` : '',
      targetOf(measure),
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))); // the heading
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function targetOf(measure: Measure): string {
  const { target } = measure;
  if (!target) return '';
  const limit = 'atLeast' in target ? `at least ${target.atLeast}` : `at most ${target.atMost}`;
  return `${limit}: ${isMet(measure) ? 'met' : 'missed'}`;
}

export const shown = (value: number | undefined): string =>
  value === undefined ? '-' : value >= 100 ? Math.round(value).toLocaleString('en') : String(round(value, value < 1 ? 3 : 1));
