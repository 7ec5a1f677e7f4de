import { percentile, round } from './figures';

/** What the parts of `bench -- all` return, and how figures become ratios. */

export const OURS = 'this service';

/** One figure, measured side by side: the contenders run in turn, so other load on the machine affects all of them. */
export interface Measure {
  part: string;
  what: string;
  unit: string;
  /** The figures of each contender, one for each round. */
  rounds: Record<string, number[]>;
  /** The contender that the ratio compares with; absent if the measure has no ratio. */
  reference?: string;
  /** The limit of the ratio, or of the figure if there is no ratio. */
  target?: { atLeast: number } | { atMost: number };
}

export interface Ratio {
  median: number;
  low: number;
  high: number;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);

/** Our figure divided by the reference's, round by round. */
export function ratioOf({ rounds, reference }: Measure): Ratio | undefined {
  const other = reference === undefined ? undefined : rounds[reference];
  const own = rounds[OURS];
  if (!own || !other) return undefined;
  const ratios = own.flatMap((value, index) => (other[index] ? [value / other[index]] : []));
  if (ratios.length === 0) return undefined;
  return { median: round(median(ratios), 2), low: round(Math.min(...ratios), 2), high: round(Math.max(...ratios), 2) };
}

/** Undefined if the measure has no target. */
export function isMet(measure: Measure): boolean | undefined {
  const { target } = measure;
  const value = ratioOf(measure)?.median ?? medianOf(measure, OURS);
  if (!target || value === undefined) return undefined;
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost;
}

export function medianOf({ rounds }: Measure, who: string): number | undefined {
  const values = rounds[who] ?? [];
  return values.length === 0 ? undefined : median(values);
}

/** Runs the contenders in turn for `count` rounds. Each contender returns its figure. */
export async function inTurn(
  count: number,
  contenders: Record<string, () => Promise<number>>,
  say: (line: string) => void,
): Promise<Record<string, number[]>> {
  const rounds: Record<string, number[]> = {};
  for (let n = 0; n < count; n++) {
    for (const [who, run] of Object.entries(contenders)) {
      const value = round(await run(), 2);
      (rounds[who] ??= []).push(value);
      say(`round ${n + 1} of ${count}, ${who}: ${value}`);
    }
  }
  return rounds;
}
