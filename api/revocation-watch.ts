import type { Identities } from '../platform/identities';
import type { Logger } from '../platform/log';

/** Ends the open streams of identities that were revoked, also where another process revoked them. */
export interface RevocationWatch {
  /** Calls `end` once the identity is revoked. Returns the function that stops watching. */
  watch(identityId: string, end: () => void): () => void;
  close(): void;
}

/** A stream ends within 5 s of the revocation. */
const POLL_INTERVAL_MS = 2_000;

export function createRevocationWatch(identities: Pick<Identities, 'findMany'>, log: Logger): RevocationWatch {
  const watched = new Map<string, Set<() => void>>();
  let timer: NodeJS.Timeout | undefined;

  async function poll(): Promise<void> {
    try {
      const rows = await identities.findMany([...watched.keys()]);
      const active = new Set(rows.filter(({ revokedAt }) => revokedAt === null).map(({ id }) => id));
      for (const [id, ends] of [...watched]) if (!active.has(id)) for (const end of [...ends]) end();
    } catch (error) {
      log.warn({ err: error }, 'could not check whether identities with open streams were revoked; trying again');
    }
    timer = undefined;
    schedule();
  }

  function schedule(): void {
    if (watched.size > 0) timer ??= setTimeout(() => void poll(), POLL_INTERVAL_MS);
  }

  return {
    watch(identityId, end) {
      const ends = watched.get(identityId) ?? new Set();
      watched.set(identityId, ends.add(end));
      schedule();
      return () => {
        ends.delete(end);
        if (ends.size === 0 && watched.get(identityId) === ends) watched.delete(identityId);
      };
    },
    close() {
      clearTimeout(timer);
      watched.clear();
    },
  };
}
