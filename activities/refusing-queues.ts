/** Longer than the sweep takes to try many such queues. Later, a queue is listed again with the next answer that it refuses. */
const REMEMBER_MS = 60_000;
const MAX_REMEMBERED = 20_000;

/** Until when each queue is listed. */
const untilMs = new Map<string, number>();

/**
 * Queues of task groups that did not accept an answer. While a queue is listed, its answers wait in the store for the sweep,
 * which tries one of them in each run. So such a queue costs little, and no further result waits for it. A queue that confirms
 * nothing is listed only after some time, or when the deadline of a publish has passed: the results that came before wait until
 * that deadline. The list is lost when the process ends.
 */
export const refusingQueues = {
  has(queue: string): boolean {
    const until = untilMs.get(queue);
    if (until === undefined) return false;
    if (Date.now() < until) return true;
    untilMs.delete(queue);
    return false;
  },

  add(queue: string): void {
    if (untilMs.size >= MAX_REMEMBERED) untilMs.clear();
    untilMs.set(queue, Date.now() + REMEMBER_MS);
  },

  delete(queue: string): void {
    untilMs.delete(queue);
  },
};
