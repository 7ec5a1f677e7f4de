import { TerminalError } from '../../contracts/errors';

/** Bounds the memory that large requests of one owner use. Further large requests wait with the rest of their bodies unread. */
export interface LargeRequests {
  /** Resolves with the function that ends the turn. Throws LIMIT_EXCEEDED if too many requests wait. */
  enter(key: string): Promise<() => void>;
}

const MAX_ACTIVE = 2;
const MAX_WAITING = 16;
const RETRY_AFTER_S = 2;

export function createLargeRequests(): LargeRequests {
  const entries = new Map<string, { active: number; waiting: (() => void)[] }>();

  return {
    async enter(key) {
      const entry = entries.get(key) ?? { active: 0, waiting: [] };
      entries.set(key, entry);
      if (entry.active < MAX_ACTIVE) entry.active++;
      else {
        if (entry.waiting.length >= MAX_WAITING) {
          throw new TerminalError(
            'LIMIT_EXCEEDED',
            `more than ${MAX_WAITING} of your large requests are waiting; repeat this one later`,
            {
              retryAfterS: RETRY_AFTER_S,
            },
          );
        }
        await new Promise<void>((resolve) => entry.waiting.push(resolve)); // The request that leaves passes its place on.
      }
      let isInside = true;
      return () => {
        if (!isInside) return;
        isInside = false;
        const next = entry.waiting.shift();
        if (next) return next();
        if (--entry.active === 0) entries.delete(key);
      };
    },
  };
}
