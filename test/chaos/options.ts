import { parseArgs } from 'node:util';

import { ALL_PAIRS, type Pair } from './plan';

export interface ChaosOptions {
  seed: number;
  tasks: number;
  isQuick: boolean;
  /** Only faults with this in their name. */
  only: string;
}

export const USAGE = `npm run chaos -- [--seed N] [--tasks N] [--quick] [--only NAME]
  --seed N    the order and the length of the faults; default: another one each time
  --tasks N   how many tasks are submitted; default 500, with --quick 120
  --only NAME only faults with this in their name: "alarm", "rabbitmq freeze", "postgres"
  --quick     at most 2 minutes: the faults that the product is known to survive, two kinds of submitters`;

const DEFAULT_TASKS = 500;
const QUICK_TASKS = 120;

/** Throws an error with the usage when the arguments make no sense. */
export function readOptions(args: readonly string[]): ChaosOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: 'string' },
      tasks: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
    },
  });
  const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
  const tasks = values.tasks === undefined ? (values.quick ? QUICK_TASKS : DEFAULT_TASKS) : Number(values.tasks);
  if (!Number.isInteger(seed) || !Number.isInteger(tasks) || tasks < 1) throw new Error(USAGE);
  if (!ALL_PAIRS.some((pair) => hasName(pair, values.only))) throw new Error(USAGE);
  return { seed, tasks, isQuick: values.quick, only: values.only };
}

export const hasName = ({ part, fault }: Pair, name: string): boolean => `${part} ${fault}`.includes(name);

/** What a run is made of: everything, or what fits into two minutes and holds today. */
export interface Scale {
  pairs: readonly Pair[];
  meetsWorkShare: number;
  delayMs: number;
  holdMs: readonly [number, number];
  /** After each fault, before the next tasks. */
  calmMs: number;
  /** How long submitters may wait for their answers once the last fault is over. */
  finishMs: number;
  /** How long the system may take to become idle after that. */
  idleMs: number;
}

/** The faults of `--quick`. Add one only when the product survives it in every run. */
export const QUICK_PAIRS: readonly Pair[] = [
  { part: 'api', fault: 'kill' },
  { part: 'workers', fault: 'kill' },
  { part: 'endpoint', fault: 'kill' },
  { part: 'postgres', fault: 'kill' },
  { part: 'temporal', fault: 'kill' },
  { part: 'rabbitmq', fault: 'kill' },
  { part: 'workers', fault: 'freeze' },
  { part: 'postgres', fault: 'freeze' },
];

export const FULL: Scale = {
  pairs: ALL_PAIRS,
  meetsWorkShare: 0.5,
  delayMs: 1_500,
  holdMs: [3_000, 15_000],
  calmMs: 1_000,
  finishMs: 240_000,
  idleMs: 90_000,
};

export const QUICK: Scale = {
  pairs: QUICK_PAIRS,
  meetsWorkShare: 1,
  delayMs: 500,
  holdMs: [1_000, 2_000],
  calmMs: 300,
  finishMs: 45_000,
  idleMs: 30_000,
};
