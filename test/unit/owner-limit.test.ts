import { setTimeout as delay } from 'node:timers/promises';

import { createOwnerLimit, type OwnerLimit } from '../../accepting/owner-limit';
import type { QuotaLeases } from '../../platform/store/quotas';
import { until } from '../helpers/until';

/** The store of several processes. `open` is what is stored; a lease is what `lease_quota` would give. */
class Store {
  open = 0;
  leases = 0;
  readonly #rooms = new Map<symbol, number>();

  forProcess(): QuotaLeases {
    const process = Symbol('process');
    return {
      lease: async (_owner, { limit, reserved, more, shares }) => {
        this.leases++;
        const others = [...this.#rooms].reduce((sum, [other, room]) => (other === process ? sum : sum + room), 0);
        const room = limit - this.open - others;
        const share = room / shares < 100 ? 0 : Math.floor(room / shares);
        const leased = reserved + more <= room ? Math.min(room, reserved + Math.max(more, share)) : reserved;
        if (leased === 0) this.#rooms.delete(process);
        else this.#rooms.set(process, leased);
        return { used: this.open, others, leased };
      },
      giveBack: async () => void this.#rooms.delete(process),
    };
  }
}

/** Stores `count` items, as the accept does. */
async function accept(
  store: Store,
  limit: OwnerLimit,
  count: number,
  isStored: Promise<void> = Promise.resolve(),
): Promise<void> {
  const end = await limit.reserve('owner', count);
  await isStored;
  store.open += count;
  end(true);
}

test('processes that accept at the same moment reach the limit, and do not exceed it', async () => {
  const store = new Store();
  const limits = Array.from({ length: 4 }, () => createOwnerLimit(100, store.forProcess()));
  store.open = 60;
  let store40: () => void = () => undefined;
  const isStored = new Promise<void>((resolve) => (store40 = resolve));
  const outcomes = Promise.allSettled(limits.map((limit) => accept(store, limit, 40, isStored)));
  setTimeout(store40, 50);
  expect((await outcomes).filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  expect(store.open).toBe(100);
});

test('small requests at several processes fill the room', async () => {
  const store = new Store();
  const limits = Array.from({ length: 4 }, () => createOwnerLimit(1_000, store.forProcess(), { refreshMs: 20 }));
  const work = async (limit: OwnerLimit): Promise<number> => {
    for (let n = 0; ; n++) {
      try {
        await accept(store, limit, 7);
      } catch {
        return n;
      }
    }
  };
  await Promise.all(limits.map(work));
  expect(store.open).toBeLessThanOrEqual(1_000);
  expect(store.open).toBeGreaterThan(980);
});

test('far from the limit, one lease serves many requests', async () => {
  const store = new Store();
  const limit = createOwnerLimit(1_000_000, store.forProcess());
  for (let n = 0; n < 1_000; n++) await accept(store, limit, 1);
  expect(store.leases).toBe(1);
});

test('while much is reserved, one lease still serves many requests', async () => {
  const store = new Store();
  const limit = createOwnerLimit(1_000_000, store.forProcess());
  await limit.reserve('owner', 100_000);
  for (let n = 0; n < 1_000; n++) await accept(store, limit, 1);
  expect(store.leases).toBeLessThanOrEqual(2);
});

test('a process that stored something within a small limit leaves the rest of the room to others', async () => {
  const store = new Store();
  const [one, other] = [createOwnerLimit(101, store.forProcess()), createOwnerLimit(101, store.forProcess())];
  await accept(store, one, 1);
  await expect(other.reserve('owner', 100)).resolves.toBeDefined();
});

test('a refusal tells what the owner has, and that requests elsewhere hold the rest', async () => {
  const store = new Store();
  const [one, other] = [createOwnerLimit(100, store.forProcess()), createOwnerLimit(100, store.forProcess())];
  store.open = 3;
  await one.reserve('owner', 90);
  await expect(other.reserve('owner', 10)).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
    message: expect.stringMatching(/^You have 3 open tasks.*Other requests that are under way hold the rest/s),
  });
});

test('requests that wait for room ask the store together', async () => {
  const store = new Store();
  const [one, other] = [createOwnerLimit(100, store.forProcess()), createOwnerLimit(100, store.forProcess())];
  const end = await one.reserve('owner', 100);
  const before = store.leases;
  const waiting = Array.from({ length: 50 }, () => other.reserve('owner', 2));
  await until('they have asked twice', () => store.leases >= before + 2);
  expect(store.leases - before).toBeLessThan(10);
  end(false);
  await expect(Promise.all(waiting)).resolves.toHaveLength(50);
});

test('requests over the limit are refused together, and a later one asks again', async () => {
  const store = new Store();
  const limit = createOwnerLimit(100, store.forProcess());
  store.open = 100;
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => limit.reserve('owner', 1)));
  expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(50);
  expect(store.leases).toBeLessThan(10);
  store.open = 99; // the owner deletes one
  await expect(limit.reserve('owner', 1)).resolves.toBeDefined();
});

test('requests over the limit that come one after another are all refused soon, with few questions to the store', async () => {
  const store = new Store();
  const limit = createOwnerLimit(100, store.forProcess());
  store.open = 100;
  const begun = performance.now();
  const refused = await Promise.all(
    Array.from({ length: 50 }, async (_, n) => {
      await delay(n);
      await expect(limit.reserve('owner', 1)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
      return performance.now() - begun;
    }),
  );
  expect(store.leases).toBeLessThan(10);
  expect(Math.max(...refused)).toBeLessThan(2_000); // one every 100 ms would take 5 s
});

test('requests for one item need room for it once in a lease', async () => {
  const store = new Store();
  const limit = createOwnerLimit(10_000, store.forProcess());
  for (let n = 0; n < 1_000; n++) (await limit.reserve('owner', 1, 'item'))(true);
  expect(store.leases).toBe(1);
});

test('what is on its way into the store counts, and what was given up does not', async () => {
  const store = new Store();
  const limit = createOwnerLimit(10, store.forProcess());
  const end = await limit.reserve('owner', 10);
  let isRefused: boolean | undefined;
  const another = limit.reserve('owner', 1).then(
    () => (isRefused = false),
    () => (isRefused = true),
  );
  await new Promise((resolve) => setImmediate(resolve));
  expect(isRefused).toBeUndefined(); // it waits for the exact count
  store.open = 10;
  end(true);
  await another;
  expect(isRefused).toBe(true);
  store.open = 0;
  (await limit.reserve('owner', 10))(false);
  await expect(limit.reserve('owner', 10)).resolves.toBeDefined();
});

test('what is stored while a lease is under way counts', async () => {
  const store = new Store();
  const leases = store.forProcess();
  let answer: () => void = () => undefined;
  let isSlow = false;
  const limit = createOwnerLimit(10, {
    ...leases,
    async lease(...wanted) {
      const lease = await leases.lease(...wanted);
      if (isSlow) await new Promise<void>((resolve) => (answer = resolve));
      return lease;
    },
  });
  let end: () => void = () => undefined;
  const isStored = new Promise<void>((resolve) => (end = resolve));
  const first = accept(store, limit, 10, isStored);
  await new Promise((resolve) => setImmediate(resolve));
  isSlow = true;
  const second = accept(store, limit, 10);
  await new Promise((resolve) => setImmediate(resolve)); // its lease counted nothing, and the answer is on its way
  end();
  await first;
  isSlow = false;
  answer();
  await expect(second).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

test('a lease has no room for what was stored, but not yet answered, when it was asked for', async () => {
  const store = new Store();
  const limit = createOwnerLimit(10, store.forProcess());
  const end = await limit.reserve('owner', 8);
  store.open = 8;
  const second = accept(store, limit, 2);
  await new Promise((resolve) => setImmediate(resolve));
  end(true);
  await second;
  await expect(accept(store, limit, 1)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

test('room that a request gave up is there for other processes', async () => {
  const store = new Store();
  const [one, other] = [createOwnerLimit(10, store.forProcess()), createOwnerLimit(10, store.forProcess())];
  const end = await one.reserve('owner', 10);
  let isDone = false;
  const waiting = other.reserve('owner', 10).then(() => (isDone = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect(isDone).toBe(false);
  end(false);
  await until('the other process has the room', () => isDone);
  await waiting;
});

test('room that was taken for an item is not needed twice once the item is stored', async () => {
  const store = new Store();
  const [one, other] = [createOwnerLimit(2, store.forProcess()), createOwnerLimit(2, store.forProcess())];
  await one.take('owner', 1);
  store.open = 1;
  await expect(other.take('owner', 1)).resolves.toBeUndefined(); // waits until the first process gives the room back
  store.open = 2;
  await expect(other.take('owner', 1)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

test('items that are taken at the same time and stored later do not exceed the limit', async () => {
  const store = new Store();
  const limit = createOwnerLimit(100, store.forProcess());
  store.open = 99;
  const create = async (): Promise<void> => {
    await limit.take('owner', 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    store.open++;
  };
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, create));
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  expect(store.open).toBe(100);
});
