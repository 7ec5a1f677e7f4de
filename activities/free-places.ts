import { randomUUID } from 'node:crypto';

/**
 * Wakes the pumps of this process when a place in the window of their queue becomes free. An answer that this process stores
 * wakes them itself. The processes tell each other at which queues a pump waits, and which places they have freed: so nothing
 * is sent while no pump waits elsewhere. A slow poll finds what was not told.
 */

/** While the processes do not hear each other, and once when a pump begins to wait: a place may have just been freed. */
const POLL_MS = 50;
const SLOW_POLL_MS = 1_000;
/** A waiting pump says so again after this time. */
const ANNOUNCE_MS = 1_000;
/** For how long others believe it. */
const BELIEVED_MS = 3_000;
/** What is sent within this time is one message. */
const GATHER_MS = 3;
/** PostgreSQL takes 8,000 bytes. */
const MAX_IDS_PER_MESSAGE = 200;

interface Waiter {
  isNoted: boolean;
  wake: (() => void) | undefined;
  /** Other processes have just been told that it waits, and may have freed a place before. */
  isNew: boolean;
}

export interface PlaceWait {
  /** Forgets what was noted. Call before a claim, so that places that are freed meanwhile count. */
  reset(): void;
  /** Resolves when a place may be free, after `maxMs`, or when `signal` is aborted. */
  next(maxMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface FreePlaces {
  /** Attempts of this queue ended: wakes the pumps of this process, and of others that wait. */
  note(endpointQueueId: string): void;
  open(endpointQueueId: string): PlaceWait;
  /** A message of another process, or of this one. */
  receive(payload: string): void;
}

export interface FreePlacesDeps {
  /** Returns those of the given queues that have room in their windows. */
  listQueuesWithRoom: (endpointQueueIds: readonly string[]) => Promise<readonly string[]>;
  /** Sends a message to the other processes. */
  send: (payload: string) => void;
  /** True while messages of other processes arrive. */
  isListening: () => boolean;
  onError: (error: unknown) => void;
}

type Kind = 'waits' | 'free';

export function createFreePlaces({ listQueuesWithRoom, send, isListening, onError }: FreePlacesDeps): FreePlaces {
  const self = randomUUID();
  const waiters = new Map<string, Set<Waiter>>();
  const announcedAtMs = new Map<string, number>();
  /** Until when pumps of other processes wait at a queue. */
  const awaitedUntilMs = new Map<string, number>();
  const outgoing: Record<Kind, Set<string>> = { waits: new Set(), free: new Set() };
  let sending: NodeJS.Timeout | undefined;
  let polling: { timer: NodeJS.Timeout; isFast: boolean } | undefined;

  function wake(endpointQueueId: string): void {
    for (const waiter of waiters.get(endpointQueueId) ?? []) {
      waiter.isNoted = true;
      waiter.wake?.();
    }
  }

  function tell(what: Kind, endpointQueueId: string): void {
    outgoing[what].add(endpointQueueId);
    sending ??= setTimeout(() => {
      sending = undefined;
      for (const kind of ['waits', 'free'] as const) {
        const ids = [...outgoing[kind]];
        outgoing[kind].clear();
        for (let at = 0; at < ids.length; at += MAX_IDS_PER_MESSAGE) {
          send([self, kind, ...ids.slice(at, at + MAX_IDS_PER_MESSAGE)].join(' '));
        }
      }
    }, GATHER_MS);
  }

  /** Returns true when the others did not believe it before. */
  function announce(endpointQueueId: string): boolean {
    const agoMs = Date.now() - (announcedAtMs.get(endpointQueueId) ?? -Infinity);
    if (agoMs < ANNOUNCE_MS) return false;
    announcedAtMs.set(endpointQueueId, Date.now());
    tell('waits', endpointQueueId);
    return agoMs >= BELIEVED_MS;
  }

  const waiting = (): [string, Waiter[]][] =>
    [...waiters].flatMap(([queueId, all]) => {
      const sleepers = [...all].filter((waiter) => waiter.wake !== undefined);
      return sleepers.length > 0 ? [[queueId, sleepers] as [string, Waiter[]]] : [];
    });

  /** Runs only while somebody waits. */
  function pollSoon(isFast: boolean): void {
    if (polling && (polling.isFast || !isFast)) return;
    clearTimeout(polling?.timer);
    const timer = setTimeout(
      () => {
        void poll().finally(() => {
          polling = undefined;
          const now = waiting();
          if (now.length > 0) pollSoon(!isListening() || now.some(([, sleepers]) => sleepers.some(({ isNew }) => isNew)));
        });
      },
      isFast ? POLL_MS : SLOW_POLL_MS,
    );
    polling = { timer, isFast };
  }

  async function poll(): Promise<void> {
    const asked = waiting();
    if (asked.length === 0) return;
    for (const [queueId, sleepers] of asked) {
      announce(queueId);
      for (const waiter of sleepers) waiter.isNew = false;
    }
    try {
      for (const queueId of await listQueuesWithRoom(asked.map(([queueId]) => queueId))) wake(queueId);
    } catch (error) {
      onError(error);
    }
  }

  return {
    note(endpointQueueId) {
      wake(endpointQueueId);
      const until = awaitedUntilMs.get(endpointQueueId);
      if (until === undefined) return;
      if (until >= Date.now()) tell('free', endpointQueueId);
      else awaitedUntilMs.delete(endpointQueueId);
    },
    receive(payload) {
      const [sender, kind, ...queueIds] = payload.split(' ');
      if (sender === self) return;
      if (kind === 'free') queueIds.forEach(wake);
      else if (kind === 'waits') {
        for (const queueId of queueIds) awaitedUntilMs.set(queueId, Date.now() + BELIEVED_MS);
      }
    },
    open(endpointQueueId) {
      const waiter: Waiter = { isNoted: false, wake: undefined, isNew: false };
      const all = waiters.get(endpointQueueId) ?? new Set();
      waiters.set(endpointQueueId, all.add(waiter));
      return {
        reset() {
          waiter.isNoted = false;
        },
        async next(maxMs, signal) {
          if (waiter.isNoted || signal.aborted) return;
          const isNew = announce(endpointQueueId);
          await new Promise<void>((resolve) => {
            const late = setTimeout(done, maxMs);
            function done(): void {
              clearTimeout(late);
              signal.removeEventListener('abort', done);
              waiter.wake = undefined;
              resolve();
            }
            signal.addEventListener('abort', done);
            waiter.isNew ||= isNew;
            waiter.wake = done;
            pollSoon(waiter.isNew || !isListening());
          });
        },
        close() {
          all.delete(waiter);
          if (all.size > 0) return;
          waiters.delete(endpointQueueId);
          announcedAtMs.delete(endpointQueueId);
        },
      };
    },
  };
}
