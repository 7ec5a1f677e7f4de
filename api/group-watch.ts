import type { Logger } from '../platform/log';

/**
 * Waits for the next result of a task group. One query polls the store for all groups that requests wait for, less often for
 * groups in which nothing happens. Nothing is queried while no request waits.
 */

const MIN_INTERVAL_MS = 30;
/**
 * A multiple of the shorter intervals, so that quiet groups are polled together. Limits the delay of a result whose submit came to
 * another replica.
 */
const MAX_INTERVAL_MS = 120;
/** The interval is at most this part of the time in which nothing happened. */
const QUIET_PART = 1 / 8;
/** Delay after a failed query. */
const BACKOFF_MS = 500;

export interface GroupWatch {
  /** True if the group has a result after `seq`; false at the deadline or when `signal` aborts. Never rejects. */
  waitFor(groupId: string, seq: number, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Tells that a result of the group may come soon. */
  stir(groupId: string): void;
  close(): void;
}

interface Waiter {
  seq: number;
  settle: (hasNews: boolean) => void;
}

interface Group {
  waiters: Set<Waiter>;
  /** When tasks were last submitted here, or a request last began to wait. A client that got a result waits again for the next. */
  quietSinceMs: number;
  dueMs: number;
}

export function createGroupWatch(
  readLastSeqs: (groupIds: readonly string[]) => Promise<ReadonlyMap<string, number>>,
  log: Logger,
): GroupWatch {
  const groups = new Map<string, Group>();
  let timer: NodeJS.Timeout | undefined;
  let timerMs = Infinity;
  let isPolling = false;
  let isClosed = false;
  let earliestMs = 0;

  function pollAt(dueMs: number): void {
    const atMs = Math.max(earliestMs, dueMs);
    if (isPolling || isClosed || atMs >= timerMs) return;
    clearTimeout(timer);
    timerMs = atMs;
    timer = setTimeout(() => void poll(), atMs - performance.now());
  }

  function pollNext(): void {
    let dueMs = Infinity;
    for (const group of groups.values()) dueMs = Math.min(dueMs, group.dueMs);
    pollAt(dueMs);
  }

  async function poll(): Promise<void> {
    timerMs = Infinity;
    const startMs = performance.now();
    const due = [...groups].filter(([, group]) => group.dueMs <= startMs);
    if (due.length === 0) return pollNext(); // nobody waits for them any more, or the timer was early
    isPolling = true;
    for (const [, group] of due) group.dueMs = nextMs(startMs - group.quietSinceMs, startMs);
    try {
      const lastSeqs = await readLastSeqs(due.map(([groupId]) => groupId));
      for (const [groupId, { waiters }] of due) {
        const lastSeq = lastSeqs.get(groupId) ?? 0;
        for (const waiter of [...waiters]) if (lastSeq > waiter.seq) waiter.settle(true);
      }
      const endMs = performance.now();
      earliestMs = endMs + Math.max(MIN_INTERVAL_MS, endMs - startMs); // many groups must not keep the store busy all the time
    } catch (error) {
      earliestMs = performance.now() + BACKOFF_MS; // Waiters keep their own deadlines.
      log.warn({ err: error }, 'could not poll the store for new results of task groups');
    }
    isPolling = false;
    pollNext();
  }

  return {
    waitFor(groupId, seq, timeoutMs, signal) {
      if (isClosed || signal?.aborted || timeoutMs <= 0) return Promise.resolve(false);
      return new Promise((resolve) => {
        const nowMs = performance.now();
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
        pollAt(nowMs);
      });
    },

    stir(groupId) {
      const group = groups.get(groupId);
      if (!group) return; // the next request that waits is polled for at once
      group.quietSinceMs = group.dueMs = performance.now();
      pollAt(group.dueMs);
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
