import { TerminalError } from '../contracts/errors';

/**
 * Limits how much of something one owner has, such as open tasks or stored bytes, so that a script in a loop does not fill the
 * store for everybody. A replica reuses the count of the store for a few seconds, as long as it has accepted less than its
 * share of the remaining room: several replicas accept at the same time, and together they must not exceed the limit. Room is
 * reserved for items that are not stored yet, because the count does not include them.
 */
export interface OwnerLimit {
  /**
   * Reserves room for `more` items, or throws LIMIT_EXCEEDED. Call the returned function when the items are stored or given up.
   * Close to the limit, a reservation waits until earlier reservations end, because the count is exact only then.
   */
  reserve(ownerId: string, more: number): Promise<() => void>;
  /** Adds accepted items to the count. Call before the reservation ends. */
  add(ownerId: string, count: number): void;
}

const REFRESH_MS = 5_000;
/** Accepts at most 1/8 of the remaining room before it counts again. With more than 8 replicas, the limit may be exceeded. */
const ASSUMED_REPLICAS = 8;
const RETRY_AFTER_S = 10;
/** Each attempt first counts the requests that came in between. After this many attempts, the owner counts as at the limit. */
const MAX_TRIES = 100;
/** Owners whose count is kept; the counts that were read first are dropped first. */
const MAX_OWNERS = 10_000;

interface Entry {
  used: number;
  /** What this replica has accepted since it read `used`. */
  accepted: number;
  readAtMs: number;
}

export function createOwnerLimit(
  limit: number,
  countUsed: (ownerId: string) => Promise<number>,
  /** `refusalMessage`: the message of a refusal; the default is about open tasks. `refreshMs`: how long a count is reused. */
  { refusalMessage, refreshMs = REFRESH_MS }: { refusalMessage?: (used: number) => string; refreshMs?: number } = {},
): OwnerLimit {
  const known = new Map<string, Entry>();

  async function read(ownerId: string): Promise<Entry> {
    const entry = { used: await countUsed(ownerId), accepted: 0, readAtMs: Date.now() };
    known.delete(ownerId); // moves it to the end of the map, which is in the order of reading
    known.set(ownerId, entry);
    for (const [oldest] of known) {
      if (known.size <= MAX_OWNERS) break;
      known.delete(oldest);
    }
    return entry;
  }

  /** Reserved amounts by owner. Each key is a promise that resolves when its reservation ends. */
  const reserved = new Map<string, Map<Promise<void>, number>>();

  const reservedOf = (ownerId: string): number =>
    [...(reserved.get(ownerId)?.values() ?? [])].reduce((sum, count) => sum + count, 0);

  function startReservation(ownerId: string, count: number): () => void {
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const own = reserved.get(ownerId) ?? new Map<Promise<void>, number>();
    reserved.set(ownerId, own.set(ended, count));
    return () => {
      own.delete(ended);
      if (own.size === 0 && reserved.get(ownerId) === own) reserved.delete(ownerId);
      end();
    };
  }

  function refusal(used: number, more: number): TerminalError {
    return new TerminalError(
      'LIMIT_EXCEEDED',
      refusalMessage?.(used) ??
        `You have ${used} open tasks, and ${more} more would be over the limit of ${limit}. Wait until some have their answers, or cancel them.`,
      { retryAfterS: RETRY_AFTER_S },
    );
  }

  return {
    async reserve(ownerId, more) {
      const isWithin = ({ used, accepted }: Entry): boolean =>
        accepted + reservedOf(ownerId) + more <= (limit - used) / ASSUMED_REPLICAS;
      const entry = known.get(ownerId);
      if (entry && Date.now() - entry.readAtMs < refreshMs && isWithin(entry)) return startReservation(ownerId, more);
      for (let tries = 1; ; tries++) {
        const latest = await read(ownerId);
        if (latest.used + more > limit || tries > MAX_TRIES) throw refusal(latest.used, more);
        if (reservedOf(ownerId) === 0 || isWithin(latest)) return startReservation(ownerId, more);
        await Promise.all([...(reserved.get(ownerId)?.keys() ?? [])]);
      }
    },
    add(ownerId, count) {
      const entry = known.get(ownerId);
      if (entry) entry.accepted += count;
    },
  };
}
