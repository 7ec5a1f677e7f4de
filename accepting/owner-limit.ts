import { TerminalError } from '../contracts/errors';

/**
 * Limits what one owner has of something, such as open tasks or stored bytes, so that one script in a loop does not fill the
 * store for everybody. The count is read from the store and trusted for some seconds, for a share of the room that is left:
 * several replicas accept at the same time, and together they must not exceed the limit. The closer an owner is to the limit,
 * the more often the count is read.
 */
export interface OwnerLimit {
  /** Throws LIMIT_EXCEEDED when `more` tasks would be too many. */
  check(ownerId: string, more: number): Promise<void>;
  /** The tasks were accepted. */
  add(ownerId: string, count: number): void;
}

const REFRESH_MS = 5_000;
/** A replica accepts this share of the remaining tasks before it reads the count again; more replicas may overshoot. */
const MAX_REPLICAS = 8;
const RETRY_AFTER_S = 10;
/** Owners that are remembered; the oldest are asked for again. */
const MAX_OWNERS = 10_000;

interface Entry {
  open: number;
  /** Tasks that this replica accepted since it read `open`. */
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

  return {
    async check(ownerId, more) {
      const entry = known.get(ownerId);
      if (entry && Date.now() - entry.readAtMs < refreshMs) {
        if (entry.accepted + more <= (limit - entry.open) / MAX_REPLICAS) return;
      }
      const { open } = await read(ownerId);
      if (open + more <= limit) return;
      throw new TerminalError(
        'LIMIT_EXCEEDED',
        sentence?.(open) ??
          `You have ${open} open tasks, and ${more} more would be over the limit of ${limit}. Wait until some have their answers, or cancel them.`,
        { retryAfterS: RETRY_AFTER_S },
      );
    },
    add(ownerId, count) {
      const entry = known.get(ownerId);
      if (entry) entry.accepted += count;
    },
  };
}
