import { TerminalError } from '../contracts/errors';

/**
 * Limits what one owner has of something, such as open tasks or stored bytes, so that one script in a loop does not fill the
 * store for everybody. The count is read from the store and trusted for some seconds, for a share of the room that is left:
 * several replicas accept at the same time, and together they must not exceed the limit. The closer an owner is to the limit,
 * the more often the count is read. What is on its way into the store is reserved: the count does not have it yet.
 */
export interface OwnerLimit {
  /**
   * Reserves room for `more`, or throws LIMIT_EXCEEDED. Call the returned function when they are in the store or given up.
   * Close to the limit, it waits for the reservations before it, because only then the count is exact.
   */
  reserve(ownerId: string, more: number): Promise<() => void>;
  /** They were accepted. Call before the reservation ends. */
  add(ownerId: string, count: number): void;
}

const REFRESH_MS = 5_000;
/** A replica accepts this share of the remaining tasks before it reads the count again; more replicas may overshoot. */
const MAX_REPLICAS = 8;
const RETRY_AFTER_S = 10;
/** Requests that come between are counted first; after so many tries, the owner is at the limit. */
const MAX_TRIES = 100;
/** Owners that are remembered; the oldest are asked for again. */
const MAX_OWNERS = 10_000;

interface Entry {
  open: number;
  /** What this replica accepted since it read `open`. */
  accepted: number;
  readAtMs: number;
}

export function createOwnerLimit(
  limit: number,
  countOpen: (ownerId: string) => Promise<number>,
  /** `sentence`: what a refusal says, by default of open tasks. `refreshMs`: how long a count is trusted. */
  { sentence, refreshMs = REFRESH_MS }: { sentence?: (open: number) => string; refreshMs?: number } = {},
): OwnerLimit {
  const known = new Map<string, Entry>();

  async function read(ownerId: string): Promise<Entry> {
    const entry = { open: await countOpen(ownerId), accepted: 0, readAtMs: Date.now() };
    known.delete(ownerId); // to the end of the map, which is in the order of reading
    known.set(ownerId, entry);
    for (const [oldest] of known) {
      if (known.size <= MAX_OWNERS) break;
      known.delete(oldest);
    }
    return entry;
  }

  /** Reservations by owner, with the promises of their ends. */
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

  function refusal(open: number, more: number): TerminalError {
    return new TerminalError(
      'LIMIT_EXCEEDED',
      sentence?.(open) ??
        `You have ${open} open tasks, and ${more} more would be over the limit of ${limit}. Wait until some have their answers, or cancel them.`,
      { retryAfterS: RETRY_AFTER_S },
    );
  }

  return {
    async reserve(ownerId, more) {
      const isWithin = ({ open, accepted }: Entry): boolean =>
        accepted + reservedOf(ownerId) + more <= (limit - open) / MAX_REPLICAS;
      const entry = known.get(ownerId);
      if (entry && Date.now() - entry.readAtMs < refreshMs && isWithin(entry)) return startReservation(ownerId, more);
      for (let tries = 1; ; tries++) {
        const latest = await read(ownerId);
        if (latest.open + more > limit || tries > MAX_TRIES) throw refusal(latest.open, more);
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
