import { createGroupWatch } from '../../api/group-watch';
import { createLogger } from '../../platform/log';

const log = createLogger('group-watch-test', 'silent');

describe('waiting for answers of task groups', () => {
  test('all waiters are served by one query, and nobody asks while nobody waits', async () => {
    const seqs = new Map([
      ['a', 0],
      ['b', 0],
    ]);
    const asked: string[][] = [];
    const watch = createGroupWatch(async (ids) => {
      asked.push([...ids]);
      if (asked.length === 2) seqs.set('a', 1).set('b', 5);
      return seqs;
    }, log);
    expect(asked).toEqual([]);
    await expect(
      Promise.all([watch.waitFor('a', 0, 5_000), watch.waitFor('b', 4, 5_000), watch.waitFor('a', 0, 5_000)]),
    ).resolves.toEqual([true, true, true]);
    expect(asked.every((ids) => ids.length === 2)).toBe(true);
    const before = asked.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(asked.length).toBe(before);
    watch.close();
  });

  test('a waiter gives up at its deadline, when its client goes, and when the process stops', async () => {
    const watch = createGroupWatch(async () => new Map(), log);
    const gone = new AbortController();
    const waits = [watch.waitFor('a', 0, 20), watch.waitFor('a', 0, 60_000, gone.signal), watch.waitFor('a', 0, 60_000)];
    await expect(waits[0]).resolves.toBe(false);
    gone.abort();
    await expect(waits[1]).resolves.toBe(false);
    watch.close();
    await expect(waits[2]).resolves.toBe(false);
    await expect(watch.waitFor('a', 0, 60_000)).resolves.toBe(false);
  });

  test('a failed query only delays the waiters', async () => {
    let asked = 0;
    const watch = createGroupWatch(async () => {
      if (++asked === 1) throw new Error('the store is away');
      return new Map([['a', 1]]);
    }, log);
    await expect(watch.waitFor('a', 0, 5_000)).resolves.toBe(true);
    watch.close();
  });

  test('a slow query runs at most half of the time', async () => {
    let asked = 0;
    const watch = createGroupWatch(async () => {
      asked++;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return new Map();
    }, log);
    await expect(watch.waitFor('a', 0, 1_000)).resolves.toBe(false);
    expect(asked).toBeLessThanOrEqual(3);
    watch.close();
  });

  describe('by the time that nothing happened', () => {
    beforeEach(() => jest.useFakeTimers());
    afterEach(() => jest.useRealTimers());

    /** Result numbers of groups that a test sets, and when they were read. */
    function start() {
      const seqs = new Map<string, number>();
      const askedMs: number[] = [];
      const watch = createGroupWatch(async () => {
        askedMs.push(Date.now());
        return new Map(seqs);
      }, log);
      const asksWithin = async (ms: number): Promise<number> => {
        const before = askedMs.length;
        await jest.advanceTimersByTimeAsync(ms);
        return askedMs.length - before;
      };
      return { seqs, watch, asksWithin };
    }

    test('quiet groups are asked for a few times a second, all of them by one query', async () => {
      const { watch, asksWithin } = start();
      for (let group = 0; group < 50; group++) {
        void watch.waitFor(`group ${group}`, 0, 60_000);
        await jest.advanceTimersByTimeAsync(17);
      }
      await asksWithin(3_000);
      expect(await asksWithin(10_000)).toBeLessThanOrEqual(84);
      watch.close();
    });

    test('a result in a group with results in the last half second is noticed within 50 ms', async () => {
      const { seqs, watch } = start();
      for (let seq = 1; seq <= 20; seq++) {
        let noticedMs = 0;
        void watch.waitFor('a', seq - 1, 60_000).then(() => (noticedMs = Date.now()));
        await jest.advanceTimersByTimeAsync(seq * 23);
        seqs.set('a', seq);
        const storedMs = Date.now();
        await jest.advanceTimersByTimeAsync(50);
        expect(noticedMs).toBeGreaterThanOrEqual(storedMs);
      }
      watch.close();
    });

    test('a result in a quiet group is noticed within an eighth of a second, and at once when another request waits', async () => {
      const { seqs, watch, asksWithin } = start();
      const quiet = watch.waitFor('a', 0, 120_000);
      await asksWithin(60_000);
      seqs.set('a', 1);
      await jest.advanceTimersByTimeAsync(125);
      await expect(quiet).resolves.toBe(true);
      void watch.waitFor('a', 1, 120_000);
      await asksWithin(60_000);
      void watch.waitFor('a', 1, 120_000);
      expect(await asksWithin(300)).toBeGreaterThanOrEqual(9);
      watch.close();
    });

    test('a quiet group is asked for as often as a busy one after tasks were submitted to it', async () => {
      const { seqs, watch, asksWithin } = start();
      let isNoticed = false;
      void watch.waitFor('a', 0, 60_000).then((hasNews) => (isNoticed = hasNews));
      await asksWithin(5_000);
      watch.stir('a');
      expect(await asksWithin(180)).toBeGreaterThanOrEqual(5);
      seqs.set('a', 1);
      await jest.advanceTimersByTimeAsync(31);
      expect(isNoticed).toBe(true);
      watch.stir('a'); // nobody waits
      expect(await asksWithin(1_000)).toBe(0);
      watch.close();
    });

    test('a clock that is set back stops no poll', async () => {
      const { watch, asksWithin } = start();
      void watch.waitFor('a', 0, 60_000);
      await asksWithin(1_000);
      jest.setSystemTime(Date.now() - 3_600_000);
      expect(await asksWithin(1_000)).toBeGreaterThanOrEqual(8);
      watch.close();
    });
  });
});
