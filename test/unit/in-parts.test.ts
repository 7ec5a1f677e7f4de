import { inParts } from '../../activities/in-parts';

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

/** Items that become ready one by one, and the parts in which they were handled. */
function start(count: number, handle: (part: readonly number[]) => Promise<void> = async () => undefined) {
  const ready: (() => void)[] = [];
  const items = Array.from({ length: count }, (_, item) => new Promise<number>((resolve) => (ready[item] = () => resolve(item))));
  const parts: number[][] = [];
  const handling = inParts(items, async (part) => {
    parts.push([...part]);
    await handle(part);
  });
  handling.catch(() => undefined); // a test looks at it later
  const finish = async (...which: number[]): Promise<void> => {
    for (const item of which) ready[item]?.();
    await jest.advanceTimersByTimeAsync(0);
  };
  return { ready: finish, parts, handling };
}

test('items that are ready together are handled together, at once', async () => {
  const { ready, parts, handling } = start(3);
  await ready(1, 0, 2);
  await handling;
  expect(parts).toEqual([[1, 0, 2]]);
});

test('a slow item delays the others for a moment only, and comes last', async () => {
  const { ready, parts, handling } = start(4);
  await ready(0);
  await ready(1);
  expect(parts).toEqual([]);
  await jest.advanceTimersByTimeAsync(1_000);
  expect(parts).toEqual([[0, 1]]);
  await ready(3);
  await ready(2);
  await handling;
  expect(parts).toEqual([
    [0, 1],
    [3, 2],
  ]);
});

test('a part that fails is reported when the other parts are handled', async () => {
  const { ready, parts, handling } = start(2, async ([item]) => {
    if (item === 0) throw new Error('the store is away');
  });
  await ready(0);
  await jest.advanceTimersByTimeAsync(1_000);
  await ready(1);
  await expect(handling).rejects.toThrow('the store is away');
  expect(parts).toEqual([[0], [1]]);
});

test('without items, nothing is handled', async () => {
  const { parts, handling } = start(0);
  await handling;
  expect(parts).toEqual([]);
});
