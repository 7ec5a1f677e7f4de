import { createSharing, MAX_SHARED_TASKS, type Shareable } from '../../accepting/sharing';

/** Group commit: who waits for whom, and who is accepted together. */

interface Item extends Shareable {
  name: string;
}

const item = (name: string, more: Partial<Item> = {}): Item => ({
  name,
  tasks: 1,
  bytes: 10,
  idempotencyKey: undefined,
  ...more,
});

/** Commits that end when the test says so. */
function harness(): {
  share: (lane: string, one: Item) => Promise<string>;
  batches: string[][];
  finish(error?: Error): Promise<void>;
} {
  const batches: string[][] = [];
  const ends: ((error?: Error) => void)[] = [];
  const share = createSharing<Item, string>(async (items) => {
    batches.push(items.map(({ name }) => name));
    await new Promise<void>((resolve, reject) => ends.push((error) => (error ? reject(error) : resolve())));
    return items.map(({ name }) => () => {
      if (name.startsWith('bad')) throw new Error(`${name} is refused`);
      return `${name} accepted`;
    });
  });
  return {
    share,
    batches,
    async finish(error) {
      ends.shift()?.(error);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test('a request that meets no other is accepted without a wait, and those that meet it are accepted together after it', async () => {
  const { share, batches, finish } = harness();
  const first = share('lane', item('a'));
  expect(batches).toEqual([['a']]);
  const others = [share('lane', item('b')), share('lane', item('bad')), share('lane', item('c'))];
  void Promise.allSettled(others);
  expect(batches).toEqual([['a']]);
  await finish();
  expect(await first).toBe('a accepted');
  expect(batches).toEqual([['a'], ['b', 'bad', 'c']]);
  await finish();
  expect(await Promise.allSettled(others)).toMatchObject([
    { value: 'b accepted' },
    { reason: { message: 'bad is refused' } },
    { value: 'c accepted' },
  ]);
  void share('lane', item('d'));
  expect(batches.at(-1)).toEqual(['d']);
});

test('requests of different lanes do not wait for each other', () => {
  const { share, batches } = harness();
  void share('one', item('a'));
  void share('two', item('b'));
  expect(batches).toEqual([['a'], ['b']]);
});

test('what is accepted together has a bound, and no two requests with the same idempotency key', async () => {
  const { share, batches, finish } = harness();
  void share('lane', item('first'));
  for (const one of [
    item('large', { tasks: MAX_SHARED_TASKS - 1 }),
    item('fits'),
    item('next', { idempotencyKey: 'k' }),
    item('other', { idempotencyKey: 'l' }),
    item('repeat', { idempotencyKey: 'k' }),
  ]) {
    void share('lane', one);
  }
  for (let n = 0; n < 4; n++) await finish();
  expect(batches).toEqual([['first'], ['large', 'fits'], ['next', 'other'], ['repeat']]);
});

test('a failed commit fails its own requests only', async () => {
  const { share, batches, finish } = harness();
  const first = share('lane', item('a'));
  const second = share('lane', item('b'));
  void Promise.allSettled([first, second]);
  await finish(new Error('the store is away'));
  await expect(first).rejects.toThrow('the store is away');
  expect(batches).toEqual([['a'], ['b']]);
  await finish();
  expect(await second).toBe('b accepted');
});
