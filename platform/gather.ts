/**
 * Combines concurrent calls into batches. While MAX_UNDER_WAY batches are in progress, further calls wait and then form the next
 * batch. So a burst of calls costs a few statements instead of one per call, and a single call does not wait.
 */

export const MAX_UNDER_WAY = 4;
const MAX_ITEMS = 500;

interface Waiting<Item, Outcome> {
  item: Item;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

/** `run` returns an outcome for each item, in order. If `run` rejects, the call of each of its items rejects. */
export function createGathering<Item, Outcome>(
  run: (items: readonly Item[]) => Promise<readonly Outcome[]>,
): (item: Item) => Promise<Outcome> {
  const waiting: Waiting<Item, Outcome>[] = [];
  let underWay = 0;

  async function work(): Promise<void> {
    underWay++;
    while (waiting.length > 0) {
      const batch = waiting.splice(0, MAX_ITEMS);
      try {
        const outcomes = await run(batch.map(({ item }) => item));
        batch.forEach(({ resolve }, index) => resolve(outcomes[index]!)); // one outcome for each item
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    underWay--;
  }

  return (item) =>
    new Promise<Outcome>((resolve, reject) => {
      waiting.push({ item, resolve, reject });
      if (underWay < MAX_UNDER_WAY) void work(); // rejects the items and never itself
    });
}
