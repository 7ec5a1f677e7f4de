import type { Identity, TokenOfIdentity } from '../platform/access';
import type { Identities } from '../platform/identities';
import type { Logger } from '../platform/log';

/** Ends the open streams of identities and tokens that were revoked or expired, even if another process revoked them. */
export interface RevocationWatch {
  /** Calls `end` once the identity or its token is revoked, or the token has expired. Returns a function that stops this. */
  watch(identity: Pick<Identity, 'id' | 'token'>, end: () => void): () => void;
  close(): void;
}

interface Stream extends Pick<Identity, 'id' | 'token'> {
  end: () => void;
}

/** A stream ends within 5 s of the revocation. */
const POLL_INTERVAL_MS = 2_000;

export function createRevocationWatch(
  identities: Pick<Identities, 'findMany' | 'findTokens'>,
  log: Logger,
  now: () => number = Date.now,
): RevocationWatch {
  const streams = new Set<Stream>();
  let timer: NodeJS.Timeout | undefined;

  async function poll(): Promise<void> {
    try {
      const open = [...streams]; // a stream that begins during the query is checked the next time
      const [rows, valid] = await Promise.all([
        identities.findMany([...new Set(open.map(({ id }) => id))]),
        identities.findTokens([...new Set(open.flatMap(({ token }) => token?.id ?? []))]),
      ]);
      const active = new Set(rows.filter(({ revokedAt }) => revokedAt === null).map(({ id }) => id));
      const tokens = new Set(valid);
      const isGone = (token: TokenOfIdentity): boolean =>
        token.expiresAtMs <= now() || (token.id !== undefined && !tokens.has(token.id));
      for (const { id, token, end } of open) if (!active.has(id) || (token && isGone(token))) end();
    } catch (error) {
      log.warn({ err: error }, 'could not check whether identities with open streams were revoked; trying again');
    }
    timer = undefined;
    schedule();
  }

  function schedule(): void {
    if (streams.size > 0) timer ??= setTimeout(() => void poll(), POLL_INTERVAL_MS);
  }

  return {
    watch({ id, token }, end) {
      const stream = { id, token, end };
      streams.add(stream);
      schedule();
      return () => streams.delete(stream);
    },
    close() {
      clearTimeout(timer);
      streams.clear();
    },
  };
}
