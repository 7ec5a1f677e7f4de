import { ByteBudget, takeWithin } from '../../api/byte-budget';

/** Whoever holds bytes for an answer: who waits, and for how long. */

const never = new AbortController().signal;

test('bytes that are free are taken at once, and an amount above the limit when nothing else is held', async () => {
  const budget = new ByteBudget(100);
  const release = await takeWithin(budget, 1_000, 1, never);
  expect(release).toBeDefined();
  expect(await takeWithin(budget, 1, 1, never)).toBeUndefined();
  release?.();
  expect(await takeWithin(budget, 100, 1, never)).toBeDefined();
});

test('who waits gets the bytes that another gives back, once', async () => {
  const budget = new ByteBudget(100);
  const first = await takeWithin(budget, 80, 1, never);
  const second = takeWithin(budget, 80, 60_000, never);
  first?.();
  first?.();
  expect(await second).toBeDefined();
  expect(await takeWithin(budget, 80, 1, never)).toBeUndefined();
});

test('a client that leaves does not keep others waiting', async () => {
  const budget = new ByteBudget(100);
  const first = await takeWithin(budget, 80, 1, never);
  const leaving = new AbortController();
  const left = takeWithin(budget, 100, 60_000, leaving.signal);
  const next = takeWithin(budget, 20, 60_000, never);
  leaving.abort();
  expect(await left).toBeUndefined();
  expect(await next).toBeDefined();
  first?.();
});
