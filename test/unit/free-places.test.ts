import { createFreePlaces } from '../../activities/free-places';

/** Pumps that wait for a free place in the window of their queue. */

const never = new AbortController().signal;
const LONG_MS = 60_000;

function start(roomy: string[] = []) {
  const asked: string[][] = [];
  const errors: unknown[] = [];
  const places = createFreePlaces(
    async (queueIds) => {
      asked.push([...queueIds]);
      return queueIds.filter((id) => roomy.includes(id));
    },
    (error) => errors.push(error),
  );
  return { places, asked, errors };
}

test('an answer that this process stores wakes the pump of its queue, and no other', async () => {
  const { places } = start();
  const [mine, other] = [places.open('mine'), places.open('other')];
  const isWoken = { other: false };
  const stop = new AbortController();
  const waiting = other.next(LONG_MS, stop.signal).then(() => (isWoken.other = !stop.signal.aborted));
  const woken = mine.next(LONG_MS, never);
  places.note('mine');
  await woken;
  expect(isWoken.other).toBe(false);
  stop.abort();
  await waiting;
});

test('a place that was freed during a claim is not waited for', async () => {
  const { places, asked } = start();
  const mine = places.open('mine');
  mine.reset();
  places.note('mine');
  await mine.next(LONG_MS, never);
  expect(asked).toEqual([]);
});

test('places that other processes freed are found by one question for all pumps, and only while a pump waits', async () => {
  const { places, asked } = start(['a', 'b']);
  const [a, b] = [places.open('a'), places.open('b')];
  await Promise.all([a.next(LONG_MS, never), b.next(LONG_MS, never)]);
  expect(asked).toEqual([['a', 'b']]);
  a.close();
  b.close();
  await new Promise((resolve) => setTimeout(resolve, 200)); // the time of several questions
  expect(asked).toHaveLength(1);
});

test('a pump whose window stays full waits for its whole time', async () => {
  const { places, asked } = start();
  await places.open('full').next(120, never);
  expect(asked.length).toBeGreaterThan(0);
});
