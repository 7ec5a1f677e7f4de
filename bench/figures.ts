/** Durations and rates as they are printed. */

/** The quantile of the values by nearest rank; 0 < part <= 1. */
export function percentile(values: readonly number[], part: number): number {
  if (values.length === 0) throw new RangeError('no values were measured');
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!; // in range: 0 < part <= 1 and there are values
}

export const round = (value: number, digits = 1): number => Number(value.toFixed(digits));

export interface Figures {
  p50_ms: number;
  p95_ms: number;
}

export function figuresOf(values: readonly number[]): Figures {
  return { p50_ms: round(percentile(values, 0.5)), p95_ms: round(percentile(values, 0.95)) };
}

export function print(rows: readonly (readonly [string, string | number])[]): void {
  const width = Math.max(...rows.map(([label]) => label.length));
  for (const [label, value] of rows) console.log(`  ${label.padEnd(width)}  ${value}`);
}

export async function millisecondsOf(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
