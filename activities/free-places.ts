/**
 * Wakes the pumps of this process when a place in the window of their queue becomes free. An answer that this process
 * stores wakes them itself. What other processes free is found by one question to the store for all pumps together, so an
 * endpoint with a full window costs nothing.
 */

/** How long a place may stay free that another process freed. */
const POLL_MS = 50;

interface Waiter {
  isNoted: boolean;
  wake: (() => void) | undefined;
}

export interface PlaceWait {
  /** Forgets what was noted. Call before a claim, so that places that are freed meanwhile count. */
  reset(): void;
  /** Resolves when a place may be free, after `maxMs`, or when `signal` is aborted. */
  next(maxMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface FreePlaces {
  /** Attempts of this queue ended. */
  note(endpointQueueId: string): void;
  open(endpointQueueId: string): PlaceWait;
}

/** `listQueuesWithRoom` returns those of the given queues that have room in their windows. */
export function createFreePlaces(
  listQueuesWithRoom: (endpointQueueIds: readonly string[]) => Promise<readonly string[]>,
  onError: (error: unknown) => void,
): FreePlaces {
  const waiters = new Map<string, Set<Waiter>>();
  let timer: NodeJS.Timeout | undefined;

  function note(endpointQueueId: string): void {
    for (const waiter of waiters.get(endpointQueueId) ?? []) {
      waiter.isNoted = true;
      waiter.wake?.();
    }
  }

  /** Runs only while somebody waits. */
  function pollSoon(): void {
    timer ??= setTimeout(() => {
      void poll().finally(() => {
        timer = undefined;
        if (waiting().length > 0) pollSoon();
      });
    }, POLL_MS);
  }

  const waiting = (): string[] =>
    [...waiters].filter(([, all]) => [...all].some(({ wake }) => wake !== undefined)).map(([queueId]) => queueId);

  async function poll(): Promise<void> {
    const queueIds = waiting();
    if (queueIds.length === 0) return;
    try {
      for (const queueId of await listQueuesWithRoom(queueIds)) note(queueId);
    } catch (error) {
      onError(error);
    }
  }

  return {
    note,
    open(endpointQueueId) {
      const waiter: Waiter = { isNoted: false, wake: undefined };
      const all = waiters.get(endpointQueueId) ?? new Set();
      waiters.set(endpointQueueId, all.add(waiter));
      return {
        reset() {
          waiter.isNoted = false;
        },
        async next(maxMs, signal) {
          if (waiter.isNoted || signal.aborted) return;
          await new Promise<void>((resolve) => {
            const late = setTimeout(done, maxMs);
            function done(): void {
              clearTimeout(late);
              signal.removeEventListener('abort', done);
              waiter.wake = undefined;
              resolve();
            }
            signal.addEventListener('abort', done);
            waiter.wake = done;
            pollSoon();
          });
        },
        close() {
          all.delete(waiter);
          if (all.size === 0) waiters.delete(endpointQueueId);
        },
      };
    },
  };
}
