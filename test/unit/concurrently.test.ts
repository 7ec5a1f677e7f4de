import { concurrently } from '../../platform/concurrently';

test('every item is worked on once, and never more than the limit at the same time', async () => {
  let [running, most] = [0, 0];
  const done: number[] = [];
  await concurrently(3, [1, 2, 3, 4, 5, 6, 7], async (item) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    done.push(item);
  });
  expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(most).toBe(3);
});

test('the first failure rejects, and no further item is started', async () => {
  const started: number[] = [];
  const work = concurrently(1, [1, 2, 3], async (item) => {
    started.push(item);
    if (item === 2) throw new Error('the second');
  });
  await expect(work).rejects.toThrow('the second');
  expect(started).toEqual([1, 2]);
});
