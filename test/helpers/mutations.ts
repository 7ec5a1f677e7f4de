/** Pseudo-random input from a seed, for tests that send broken requests and messages. */

/** How many, and from which seed: `FUNCX_MUTATIONS` (default 400; `npm run test:security` sends 10,000) and `FUNCX_SEED`. */
export const MUTATIONS = Number(process.env.FUNCX_MUTATIONS ?? 400);
export const SEED = Number(process.env.FUNCX_SEED ?? Date.now() % 2 ** 31);

export type Random = () => number;

/** Mulberry32: a number in [0, 1) from a state of 32 bits. */
export function randomFrom(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const pick = <T>(random: Random, from: readonly T[]): T => from[Math.floor(random() * from.length)]!; // never empty
