/** What a run does, decided by its seed alone before anything starts. */

export type Part = 'api' | 'workers' | 'endpoint' | 'rabbitmq' | 'temporal' | 'postgres';
export type Fault = 'kill' | 'freeze' | 'restart' | 'memory alarm' | 'disk alarm' | 'full disk';

export interface Pair {
  part: Part;
  fault: Fault;
}

export interface Step extends Pair {
  /** How many tasks are submitted just before the fault. */
  tasks: number;
  /** The delay begins once a call of this step is accepted, so that the fault meets work under way; else with the submit. */
  meetsWork: boolean;
  /** Before the fault. */
  delayMs: number;
  /** How long the fault lasts. Killed and restarted parts come back as soon as they can. */
  holdMs: number;
}

export const PARTS: readonly Part[] = ['api', 'workers', 'endpoint', 'rabbitmq', 'temporal', 'postgres'];
export const FAULTS: readonly Fault[] = ['kill', 'freeze', 'restart', 'memory alarm', 'disk alarm', 'full disk'];

const BROKER_ONLY: readonly Fault[] = ['memory alarm', 'disk alarm'];
/** Parts that write to a disk of their own. */
const WRITERS: readonly Part[] = ['rabbitmq', 'temporal', 'postgres'];

/** Every part with every fault that it can have. */
export const ALL_PAIRS: readonly Pair[] = PARTS.flatMap((part) => FAULTS.map((fault) => ({ part, fault }))).filter(
  ({ part, fault }) =>
    BROKER_ONLY.includes(fault) ? part === 'rabbitmq' : fault === 'full disk' ? WRITERS.includes(part) : true,
);

export interface PlanOptions {
  seed: number;
  tasks: number;
  pairs: readonly Pair[];
  /** How many of the faults wait until a call of their step is accepted, from 0 to 1. */
  meetsWorkShare: number;
  /** Longest delay before a fault, and shortest and longest duration of a fault. */
  delayMs: number;
  holdMs: readonly [number, number];
}

/** Every pair once, in a seeded order; with 1,000 tasks and more, twice for each 1,000 tasks. */
export function makePlan({ seed, tasks, pairs, meetsWorkShare, delayMs, holdMs: [shortest, longest] }: PlanOptions): Step[] {
  const random = seededRandom(seed);
  const rounds = tasks < 1_000 ? 1 : Math.ceil(tasks / 1_000) * 2;
  const chosen = Array.from({ length: rounds }, () => shuffle(pairs, random)).flat();
  return chosen.map((pair, index) => ({
    ...pair,
    tasks: Math.floor(((index + 1) * tasks) / chosen.length) - Math.floor((index * tasks) / chosen.length),
    meetsWork: random() < meetsWorkShare,
    delayMs: Math.floor(random() * delayMs),
    holdMs: Math.floor(shortest + random() * (longest - shortest)),
  }));
}

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    // Both indices are within the list.
    [shuffled[last], shuffled[other]] = [shuffled[other]!, shuffled[last]!];
  }
  return shuffled;
}
