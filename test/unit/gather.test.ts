import { createGathering } from '../../platform/gather';

/** Runs end when the test says so. */
function controlled() {
  const runs: { items: readonly number[]; end: (error?: Error) => void }[] = [];
  const gather = createGathering<number, number>(
    (items) =>
      new Promise((resolve, reject) => {
        runs.push({ items, end: (error) => (error ? reject(error) : resolve(items.map((item) => 10 * item))) });
      }),
  );
  return { runs, gather };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('calls that meet few others are made at once, and later ones together when an earlier one has ended', async () => {
  const { runs, gather } = controlled();
  const outcomes = Promise.all([1, 2, 3, 4, 5, 6, 7].map(gather));
  expect(runs.map(({ items }) => items)).toEqual([[1], [2], [3], [4]]);
  runs[2]!.end();
  await turn();
  expect(runs.map(({ items }) => items)).toEqual([[1], [2], [3], [4], [5, 6, 7]]);
  runs.forEach(({ end }) => end());
  expect(await outcomes).toEqual([10, 20, 30, 40, 50, 60, 70]);
  const next = gather(8);
  expect(runs.at(-1)?.items).toEqual([8]);
  runs.at(-1)?.end();
  expect(await next).toBe(80);
});

test('an error is the error of each call that was made together, and of no other', async () => {
  const { runs, gather } = controlled();
  const outcomes = Promise.allSettled([1, 2, 3, 4, 5, 6].map(gather));
  runs[0]!.end();
  await turn();
  runs.at(-1)?.end(new Error('no store'));
  runs.forEach(({ end }) => end());
  expect((await outcomes).map(({ status }) => status)).toEqual([
    'fulfilled',
    'fulfilled',
    'fulfilled',
    'fulfilled',
    'rejected',
    'rejected',
  ]);
});
