import { randomUUID } from 'node:crypto';

/**
 * Wakes the pumps of this process when a place in the window of their queue becomes free. When this process stores an answer, it
 * wakes its own pumps directly. The processes notify each other for which queues a pump waits and where places became free, so a
 * process sends nothing while no other process has a waiting pump. A slow poll covers lost messages.
 */

/** While no messages arrive, and once when a pump starts to wait, because a place may have been freed just before. */
const POLL_MS = 50;
const SLOW_POLL_MS = 1_000;
/** A waiting pump is announced again after this time. */
const ANNOUNCE_MS = 1_000;
/** How long other processes rely on an announcement. */
const BELIEVED_MS = 3_000;
/** Everything to be sent within this time goes into one message. */
const GATHER_MS = 3;
/** PostgreSQL limits a notification to 8,000 bytes. */
const MAX_IDS_PER_MESSAGE = 200;

interface Waiter {
  isNoted: boolean;
  wake: (() => void) | undefined;
  /** The wait was announced only now; another process may have freed a place just before without sending a message. */
  isNew: boolean;
}

export interface PlaceWait {
  /** Clears earlier notes. Call before a claim, so that `next` returns immediately if a place becomes free during the claim. */
  reset(): void;
  /** Resolves when a place may be free, after `maxMs`, or when `signal` is aborted. */
  next(maxMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface FreePlaces {
  /** Call when attempts of this queue ended. Wakes the pumps of this process and the waiting pumps of other processes. */
  note(endpointQueueId: string): void;
  open(endpointQueueId: string): PlaceWait;
  /** Call with each message, whether another process or this one sent it. */
  receive(payload: string): void;
}

export interface FreePlacesDeps {
  listQueuesWithRoom: (endpointQueueIds: readonly string[]) => Promise<readonly string[]>;
  send: (payload: string) => void;
  isListening: () => boolean;
  onError: (error: unknown) => void;
}

type Kind = 'waits' | 'free';

export function createFreePlaces({ listQueuesWithRoom, send, isListening, onError }: FreePlacesDeps): FreePlaces {
  const self = randomUUID();
  const waiters = new Map<string, Set<Waiter>>();
  const announcedAtMs = new Map<string, number>();
  /** By queue: until when this process assumes that a pump of another process waits. */
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

  /** Announces that a pump waits, at most every ANNOUNCE_MS. Returns true if no earlier announcement is still relied on. */
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

  /** Schedules a poll. Polling continues only while a pump waits. */
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
