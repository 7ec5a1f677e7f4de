/**
 * Group commit. The start of a workflow costs Temporal 20 to 30 ms of CPU. So requests with equal options that arrive while
 * another such request is being accepted wait for it, and are then accepted together. A request that meets no other request
 * does not wait.
 */

/** The most tasks, and the most bytes of bodies, that are accepted together. */
export const MAX_SHARED_TASKS = 2_000;
const MAX_SHARED_BYTES = 8 * 1024 * 1024;

export interface Shareable {
  tasks: number;
  bytes: number;
  /** Two requests with one idempotency key are never accepted together: the second one is a repeat. */
  idempotencyKey: string | undefined;
}

interface Waiting<Item, Outcome> {
  item: Item;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

/**
 * Returns a function that accepts an item, alone or with others of the same lane. `commit` returns an outcome for each item,
 * in order. If it rejects, every item rejects with its error.
 */
export function createSharing<Item extends Shareable, Outcome>(
  commit: (items: readonly Item[]) => Promise<readonly (() => Outcome)[]>,
): (lane: string, item: Item) => Promise<Outcome> {
  /** The requests that wait, by lane. A lane exists while one of its commits runs. */
  const lanes = new Map<string, Waiting<Item, Outcome>[]>();

  async function run(batch: readonly Waiting<Item, Outcome>[]): Promise<void> {
    try {
      const outcomes = await commit(batch.map(({ item }) => item));
      batch.forEach(({ resolve, reject }, index) => {
        try {
          resolve(outcomes[index]!()); // one for each item
        } catch (error) {
          reject(error);
        }
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  async function work(lane: string, first: Waiting<Item, Outcome>): Promise<void> {
    const waiting: Waiting<Item, Outcome>[] = [];
    lanes.set(lane, waiting);
    await run([first]);
    while (waiting.length > 0) await run(takeBatch(waiting));
    lanes.delete(lane);
  }

  return function share(lane, item) {
    return new Promise<Outcome>((resolve, reject) => {
      const entry = { item, resolve, reject };
      const waiting = lanes.get(lane);
      if (waiting) waiting.push(entry);
      else void work(lane, entry); // never rejects: an error rejects the entries
    });
  };
}

/** Removes the next batch: the first item and the following items that fit, in order. */
function takeBatch<Item extends Shareable, Outcome>(waiting: Waiting<Item, Outcome>[]): Waiting<Item, Outcome>[] {
  const keys = new Set<string>();
  let [tasks, bytes, n] = [0, 0, 0];
  for (const { item } of waiting) {
    tasks += item.tasks;
    bytes += item.bytes;
    if (n > 0 && (tasks > MAX_SHARED_TASKS || bytes > MAX_SHARED_BYTES)) break;
    if (item.idempotencyKey !== undefined) {
      if (keys.has(item.idempotencyKey)) break;
      keys.add(item.idempotencyKey);
    }
    n++;
  }
  return waiting.splice(0, n);
}
