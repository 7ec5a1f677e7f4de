import { setTimeout as delay } from 'node:timers/promises';

import { TerminalError } from '../contracts/errors';
import type { Lease, QuotaLeases } from '../platform/store/quotas';

/**
 * Limits how much of something one owner has, such as open tasks or stored bytes, so that a script in a loop does not fill the
 * store for everybody. Several processes accept at the same time, and together they must not exceed the limit. So each process
 * leases room, and every lease sees the leases of the others. Far from the limit, a lease is a share of the room that serves many
 * requests for some seconds. Close to the limit, each request leases exactly what it needs, and gives it back once it is stored.
 */
export interface OwnerLimit {
  /**
   * Reserves room for `more` items, or throws LIMIT_EXCEEDED. Call the returned function when the items are stored or given up.
   * Close to the limit, a reservation waits for requests that are about to be stored.
   */
  reserve(ownerId: string, more: number): Promise<() => void>;
  /** Adds stored items to the count. Call before their reservation ends. */
  add(ownerId: string, count: number): void;
  /** Like `reserve` and `add`, for items that are stored soon, if nobody tells when. */
  take(ownerId: string, more: number): Promise<void>;
}

const REFRESH_MS = 5_000;
/** Requests of a lease that is used no more are stored within this time. */
const IN_FLIGHT_MS = 10_000;
/** Small shares, because the unused part of a share is room that other processes do not have. */
const SHARES = 32;
const RETRY_AFTER_S = 10;
/** How long a reservation waits for room that other processes lease and may give back. */
const MAX_WAIT_MS = 3_000;
const POLL_MS = 100;
/** Items that `take` counts are stored within this time. Less than MAX_WAIT_MS, so that others need not wait in vain. */
const STORED_SOON_MS = 1_000;
/** Each attempt first counts the requests that came in between. After this many attempts, the owner counts as at the limit. */
const MAX_TRIES = 100;
/** Owners whose lease is kept; the oldest leases are dropped first. */
const MAX_OWNERS = 10_000;

interface Entry {
  leased: number;
  /** True if the lease is no share, but what one request needed. */
  isExact: boolean;
  /** What this process has stored of the lease. */
  accepted: number;
  leasedAtMs: number;
}

export function createOwnerLimit(
  limit: number,
  leases: QuotaLeases,
  /** `refusalMessage`: the message of a refusal; the default is about open tasks. `refreshMs`: how long a lease is used. */
  { refusalMessage, refreshMs = REFRESH_MS }: { refusalMessage?: (used: number) => string; refreshMs?: number } = {},
): OwnerLimit {
  const known = new Map<string, Entry>();
  /** Ends when the last change of an owner's lease is done. */
  const turns = new Map<string, Promise<void>>();
  /** Reserved amounts by owner. Each key is a promise that resolves when its reservation ends. */
  const reserved = new Map<string, Map<Promise<void>, number>>();

  const reservedOf = (ownerId: string): number =>
    [...(reserved.get(ownerId)?.values() ?? [])].reduce((sum, count) => sum + count, 0);

  /** Changes the lease of an owner after earlier changes: the store and this process must agree which lease is the last. */
  function inTurn<T>(ownerId: string, work: () => Promise<T>): Promise<T> {
    const done = (turns.get(ownerId) ?? Promise.resolve()).then(work);
    const ended = done.then(
      () => undefined,
      () => undefined,
    );
    turns.set(ownerId, ended);
    void ended.then(() => turns.get(ownerId) === ended && turns.delete(ownerId));
    return done;
  }

  function fits(ownerId: string, more: number): boolean {
    const entry = known.get(ownerId);
    if (!entry || Date.now() - entry.leasedAtMs >= refreshMs) return false;
    return entry.accepted + reservedOf(ownerId) + more <= entry.leased;
  }

  async function lease(ownerId: string, more: number): Promise<Lease> {
    const leasedAtMs = Date.now();
    const wanted = { reserved: reservedOf(ownerId), more };
    const lifetimeS = (refreshMs + IN_FLIGHT_MS) / 1_000;
    const got = await leases.lease(ownerId, { ...wanted, limit, shares: SHARES, lifetimeS });
    known.delete(ownerId); // moves it to the end of the map, which is in the order of leasing
    const isExact = got.leased <= wanted.reserved + more;
    known.set(ownerId, { leased: got.leased, isExact, accepted: 0, leasedAtMs });
    for (const [oldest] of known) {
      if (known.size <= MAX_OWNERS) break;
      known.delete(oldest);
    }
    return got;
  }

  async function giveBack(ownerId: string): Promise<void> {
    try {
      await inTurn(ownerId, async () => {
        if (known.get(ownerId)?.isExact !== true || reserved.has(ownerId)) return;
        known.delete(ownerId);
        await leases.giveBack(ownerId);
      });
    } catch {
      // The lease ends with its lifetime.
    }
  }

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

  async function reserve(ownerId: string, more: number): Promise<() => void> {
    if (!turns.has(ownerId) && fits(ownerId, more)) return startReservation(ownerId, more);
    const deadlineMs = Date.now() + MAX_WAIT_MS;
    for (let tries = 1; ; tries++) {
      const outcome = await inTurn(ownerId, async () => {
        const found = fits(ownerId, more) ? undefined : await lease(ownerId, more);
        return fits(ownerId, more) ? startReservation(ownerId, more) : found;
      });
      if (typeof outcome === 'function') return outcome;
      const { used = 0, others = 0 } = outcome ?? {};
      if (used + more > limit || tries > MAX_TRIES) throw refusal(used, more);
      const ahead = [...(reserved.get(ownerId)?.keys() ?? [])];
      if (ahead.length > 0) await Promise.all(ahead);
      else if (Date.now() > deadlineMs) throw refusal(Math.min(used + others, limit), more);
      else if (others > 0) await delay(POLL_MS);
    }
  }

  function add(ownerId: string, count: number): void {
    const entry = known.get(ownerId);
    if (entry) entry.accepted += count;
  }

  return {
    add,
    async reserve(ownerId, more) {
      const end = await reserve(ownerId, more);
      return () => {
        end();
        if (known.get(ownerId)?.isExact === true) void giveBack(ownerId); // never rejects
      };
    },
    async take(ownerId, more) {
      const end = await reserve(ownerId, more);
      add(ownerId, more);
      end();
      setTimeout(() => void giveBack(ownerId), STORED_SOON_MS).unref(); // never rejects
    },
  };
}
