/**
 * Gathers calls: those that arrive while MAX_UNDER_WAY earlier ones are under way wait, and are then made as one. So a burst
 * costs a few statements instead of one each, and a call that meets no others does not wait.
 */

export const MAX_UNDER_WAY = 4;
const MAX_ITEMS = 500;

interface Waiting<Item, Outcome> {
  item: Item;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

/** `run` returns an outcome for each item, in order. Its error is the error of each. */
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
        batch.forEach(({ resolve }, index) => resolve(outcomes[index]!)); // one for each item
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
