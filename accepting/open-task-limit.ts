import { TerminalError } from '../contracts/errors';

/**
 * How many open tasks one owner may have: so that one script in a loop does not fill the store of everybody. The count is
 * read at most once per `REFRESH_MS` and owner, and what was accepted here since is added; with several replicas an owner
 * may so exceed the limit a little, and never be refused below it.
 */
export interface OpenTaskLimit {
  /** Throws LIMIT_EXCEEDED when `more` tasks would be too many. */
  check(ownerId: string, more: number): Promise<void>;
  /** The tasks were accepted. */
  add(ownerId: string, count: number): void;
}

const REFRESH_MS = 5_000;
const RETRY_AFTER_S = 10;
/** Owners that are remembered; the oldest are asked for again. */
const MAX_OWNERS = 10_000;

export function createOpenTaskLimit(limit: number, countOpen: (ownerId: string) => Promise<number>): OpenTaskLimit {
  const known = new Map<string, { open: number; readAtMs: number }>();

  async function read(ownerId: string): Promise<{ open: number }> {
    const entry = { open: await countOpen(ownerId), readAtMs: Date.now() };
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
      const isFresh = entry !== undefined && Date.now() - entry.readAtMs < REFRESH_MS;
      const { open } = isFresh ? entry : await read(ownerId);
      if (open + more <= limit) return;
      throw new TerminalError(
        'LIMIT_EXCEEDED',
        `You have ${open} open tasks, and ${more} more would be over the limit of ${limit}. Wait until some have their answers, or cancel them.`,
        { retryAfterS: RETRY_AFTER_S },
      );
    },
    add(ownerId, count) {
      const entry = known.get(ownerId);
      if (entry) entry.open += count;
    },
  };
}
