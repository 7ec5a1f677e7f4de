import { ALL_PAIRS, makePlan } from '../chaos/plan';

const options = { pairs: ALL_PAIRS, meetsWorkShare: 0.5, delayMs: 1_000, holdMs: [3_000, 15_000] as const };
const timesOf = (seed: number, tasks: number): Map<string, number> => {
  const times = new Map<string, number>();
  for (const { part, fault } of makePlan({ ...options, seed, tasks })) {
    times.set(`${part} ${fault}`, (times.get(`${part} ${fault}`) ?? 0) + 1);
  }
  return times;
};

test('a plan of chaos is decided by its seed', () => {
  const plan = makePlan({ ...options, seed: 7, tasks: 300 });
  expect(makePlan({ ...options, seed: 7, tasks: 300 })).toEqual(plan);
  expect(makePlan({ ...options, seed: 8, tasks: 300 })).not.toEqual(plan);
});

test('a plan of chaos submits every task, and contains every pair of part and fault', () => {
  for (const seed of [1, 2, 3]) {
    const plan = makePlan({ ...options, seed, tasks: 317 });
    expect(plan.reduce((sum, { tasks }) => sum + tasks, 0)).toBe(317);
    expect(timesOf(seed, 317)).toEqual(new Map(ALL_PAIRS.map(({ part, fault }) => [`${part} ${fault}`, 1])));
  }
});

test('with 1,000 tasks and more, a plan of chaos contains every pair twice for each 1,000 tasks begun', () => {
  expect(Math.min(...timesOf(1, 1_000).values())).toBe(2);
  expect(Math.min(...timesOf(1, 2_001).values())).toBe(6);
});
