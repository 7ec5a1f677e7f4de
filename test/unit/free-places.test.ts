import { createFreePlaces } from '../../activities/free-places';
import { until } from '../helpers/until';

/** Pumps that wait for a free place in the window of their queue. */

const never = new AbortController().signal;
const LONG_MS = 60_000;

function start({ roomy = [], send = () => undefined }: { roomy?: string[]; send?: (payload: string) => void } = {}) {
  const asked: string[][] = [];
  const errors: unknown[] = [];
  const places = createFreePlaces({
    listQueuesWithRoom: async (queueIds) => {
      asked.push([...queueIds]);
      return queueIds.filter((id) => roomy.includes(id));
    },
    send,
    isListening: () => true,
    onError: (error) => errors.push(error),
  });
  return { places, asked, errors };
}

/** Two processes that hear each other, and what they said. */
function startTwo() {
  const messages: string[] = [];
  const both: ReturnType<typeof start>[] = [];
  const send = (payload: string): void => {
    messages.push(payload.split(' ').slice(1).join(' '));
    both.forEach(({ places }) => places.receive(payload));
  };
  both.push(start({ send }), start({ send }));
  return { pumping: both[0]!, storing: both[1]!, messages };
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
  const { places, asked } = start({ roomy: ['a', 'b'] });
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

test('a place that another process frees wakes the pump, again and again', async () => {
  const { pumping, storing, messages } = startTwo(); // to a question, the store says that no queue has room
  const wait = pumping.places.open('queue');
  const first = wait.next(LONG_MS, never);
  await until('the other process knows that a pump waits', () => messages.includes('waits queue'), { everyMs: 1 });
  storing.places.note('queue');
  await first;
  wait.reset();
  const again = wait.next(LONG_MS, never);
  storing.places.note('queue');
  await again;
  expect(messages).toEqual(['waits queue', 'free queue', 'free queue']);
});

test('nothing is sent while no pump waits elsewhere, and many places are one message', async () => {
  const { pumping, storing, messages } = startTwo();
  storing.places.note('queue');
  const [a, b] = [pumping.places.open('a'), pumping.places.open('b')];
  const woken = [a.next(LONG_MS, never), b.next(LONG_MS, never)];
  await until('the other process knows that pumps wait', () => messages.length > 0, { everyMs: 1 });
  expect(messages).toEqual(['waits a b']);
  for (let n = 0; n < 100; n++) ['a', 'b', 'c'].forEach((queueId) => storing.places.note(queueId));
  await Promise.all(woken);
  expect(messages).toEqual(['waits a b', 'free a b']);
});
