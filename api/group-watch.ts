import type { Logger } from '../platform/log';

/**
 * Waits for the next result of a task group. One query polls the store for all groups that requests wait for, less often for
 * groups in which nothing happens. Nothing is queried while no request waits.
 */

const MIN_INTERVAL_MS = 30;
/** A multiple of the shorter intervals, so that quiet groups are polled together. */
const MAX_INTERVAL_MS = 240;
/** The interval is at most this part of the time in which nothing happened. */
const QUIET_PART = 1 / 8;
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

interface Group {
  waiters: Set<Waiter>;
  /** When the latest request began to wait. A client that got a result waits again for the next one. */
  quietSinceMs: number;
  dueMs: number;
}

export function createGroupWatch(
  readLastSeqs: (groupIds: readonly string[]) => Promise<ReadonlyMap<string, number>>,
  log: Logger,
): GroupWatch {
  const groups = new Map<string, Group>();
  let timer: NodeJS.Timeout | undefined;
  let isPolling = false;
  let isClosed = false;
  let earliestMs = 0;

  function schedule(): void {
    clearTimeout(timer);
    if (isPolling || isClosed || groups.size === 0) return;
    let dueMs = Infinity;
    for (const group of groups.values()) dueMs = Math.min(dueMs, group.dueMs);
    timer = setTimeout(() => void poll(), Math.max(earliestMs, dueMs) - Date.now());
  }

  async function poll(): Promise<void> {
    const startMs = Date.now();
    const due = [...groups].filter(([, group]) => group.dueMs <= startMs);
    if (due.length === 0) return schedule(); // nobody waits for them any more
    isPolling = true;
    for (const [, group] of due) group.dueMs = nextMs(startMs - group.quietSinceMs, startMs);
    try {
      const lastSeqs = await readLastSeqs(due.map(([groupId]) => groupId));
      for (const [groupId, { waiters }] of due) {
        const lastSeq = lastSeqs.get(groupId) ?? 0;
        for (const waiter of [...waiters]) if (lastSeq > waiter.seq) waiter.settle(true);
      }
      const tookMs = Date.now() - startMs;
      earliestMs = Date.now() + Math.max(MIN_INTERVAL_MS, tookMs); // many groups must not keep the store busy all the time
    } catch (error) {
      earliestMs = Date.now() + BACKOFF_MS; // Waiters keep their own deadlines.
      log.warn({ err: error }, 'could not poll the store for new results of task groups');
    }
    isPolling = false;
    schedule();
  }

  return {
    waitFor(groupId, seq, timeoutMs, signal) {
      if (isClosed || signal?.aborted || timeoutMs <= 0) return Promise.resolve(false);
      return new Promise((resolve) => {
        const nowMs = Date.now();
        const group = groups.get(groupId) ?? { waiters: new Set(), quietSinceMs: nowMs, dueMs: nowMs };
        const waiter: Waiter = {
          seq,
          settle: (hasNews) => {
            clearTimeout(deadline);
            signal?.removeEventListener('abort', giveUp);
            group.waiters.delete(waiter);
            if (group.waiters.size === 0 && groups.get(groupId) === group) groups.delete(groupId);
            resolve(hasNews);
          },
        };
        const giveUp = (): void => waiter.settle(false);
        const deadline = setTimeout(giveUp, timeoutMs);
        signal?.addEventListener('abort', giveUp, { once: true });
        group.waiters.add(waiter);
        group.quietSinceMs = group.dueMs = nowMs;
        groups.set(groupId, group);
        schedule();
      });
    },

    close() {
      isClosed = true;
      clearTimeout(timer);
      for (const { waiters } of [...groups.values()]) for (const waiter of [...waiters]) waiter.settle(false);
    },
  };
}

/** The next multiple of the interval. */
function nextMs(quietMs: number, nowMs: number): number {
  let intervalMs = MIN_INTERVAL_MS;
  while (intervalMs < MAX_INTERVAL_MS && intervalMs * 2 <= quietMs * QUIET_PART) intervalMs *= 2;
  return (Math.floor(nowMs / intervalMs) + 1) * intervalMs;
}
