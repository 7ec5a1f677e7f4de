import type { Logger } from '../platform/log';

/** Waits for the next result of a task group. One query polls the store for all groups that requests wait for. */

const POLL_MS = 30;
/** Delay after a failed query. */
const BACKOFF_MS = 500;

export interface GroupWatch {
  /** True if the group has a result after `seq`; false at the deadline or when `signal` aborts. Never rejects. */
  waitFor(groupId: string, seq: number, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  close(): void;
}

interface Waiter {
  seq: number;
  settle: (hasNews: boolean) => void;
}

export function createGroupWatch(
  readLastSeqs: (groupIds: readonly string[]) => Promise<ReadonlyMap<string, number>>,
  log: Logger,
): GroupWatch {
  const waiters = new Map<string, Set<Waiter>>();
  let timer: NodeJS.Timeout | undefined;
  let isPolling = false;
  let isClosed = false;

  function schedule(ms: number): void {
    if (timer || isPolling || isClosed || waiters.size === 0) return;
    timer = setTimeout(() => {
      timer = undefined;
      void poll();
    }, ms);
  }

  async function poll(): Promise<void> {
    isPolling = true;
    const start = performance.now();
    let pauseMs: number;
    try {
      const lastSeqs = await readLastSeqs([...waiters.keys()]);
      for (const [groupId, lastSeq] of lastSeqs) {
        for (const waiter of [...(waiters.get(groupId) ?? [])]) if (lastSeq > waiter.seq) waiter.settle(true);
      }
      pauseMs = Math.max(POLL_MS, performance.now() - start); // many groups must not keep the store busy all the time
    } catch (error) {
      pauseMs = BACKOFF_MS; // Waiters keep their own deadlines.
      log.warn({ err: error }, 'could not poll the store for new results of task groups');
    }
    isPolling = false;
    schedule(pauseMs);
  }

  return {
    waitFor(groupId, seq, timeoutMs, signal) {
      if (isClosed || signal?.aborted || timeoutMs <= 0) return Promise.resolve(false);
      return new Promise((resolve) => {
        const waiter: Waiter = {
          seq,
          settle: (hasNews) => {
            clearTimeout(deadline);
            signal?.removeEventListener('abort', giveUp);
            const group = waiters.get(groupId);
            group?.delete(waiter);
            if (group?.size === 0) waiters.delete(groupId);
            resolve(hasNews);
          },
        };
        const giveUp = (): void => waiter.settle(false);
        const deadline = setTimeout(giveUp, timeoutMs);
        signal?.addEventListener('abort', giveUp, { once: true });
        const group = waiters.get(groupId) ?? new Set();
        waiters.set(groupId, group.add(waiter));
        schedule(0);
      });
    },

    close() {
      isClosed = true;
      clearTimeout(timer);
      for (const group of [...waiters.values()]) for (const waiter of [...group]) waiter.settle(false);
    },
  };
}
