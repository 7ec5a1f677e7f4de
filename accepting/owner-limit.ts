import { setTimeout as delay } from 'node:timers/promises';

import { TerminalError } from '../contracts/errors';
import type { QuotaLeases } from '../platform/store/quotas';

/**
 * Limits how much of something one owner has, such as open tasks or stored bytes, so that a script in a loop does not fill the
 * store for everybody. Several processes accept at the same time, and together they must not exceed the limit. So each process
 * leases room, and every lease sees the leases of the others. Far from the limit, a lease is a share of the room that serves many
 * requests for some seconds. Close to the limit, each request leases exactly what it needs, and gives it back once it is stored.
 */
export interface OwnerLimit {
  /**
   * Reserves room for `more` items, or throws LIMIT_EXCEEDED. Call the returned function when the items are stored (true) or given
   * up (false). Close to the limit, a reservation waits for requests that are about to be stored. Requests for the same item, by
   * its key, need room for it once in a lease.
   */
  reserve(ownerId: string, more: number, key?: string): Promise<EndReservation>;
  /** Like `reserve`, for items that are stored soon, if nobody tells when. */
  take(ownerId: string, more: number): Promise<void>;
  /** True if the owner got no share a moment ago: a further reservation will probably ask the store, and may be refused. */
  isTight(ownerId: string): boolean;
}

export type EndReservation = (isStored: boolean) => void;

const REFRESH_MS = 5_000;
/** Requests of a lease that is used no more are stored within this time. */
const IN_FLIGHT_MS = 10_000;
/** Small shares, because the unused part of a share is room that other processes do not have. */
const SHARES = 32;
const RETRY_AFTER_S = 10;
/** How long a reservation waits for room that other processes lease and may give back. */
const MAX_WAIT_MS = 3_000;
const POLL_MS = 100;
/** `take` keeps its reservation for this time. Less than MAX_WAIT_MS, so that others need not wait in vain. */
const STORED_SOON_MS = 300;
/** Each attempt first counts the requests that came in between. After this many attempts, the owner counts as at the limit. */
const MAX_TRIES = 100;
/** Owners whose lease is kept; the oldest leases are dropped first. */
const MAX_OWNERS = 10_000;

const HELD_BY_OTHERS = 'Other requests that are under way hold the rest. Repeat this one in a few seconds.';

interface Entry {
  /** Room of the lease for further reservations. The store counts stored items only at the next lease. */
  left: number;
  /** False if the lease is only what one request needed. */
  isShare: boolean;
  /** True while the store has the lease. */
  isHeld: boolean;
  leasedAtMs: number;
  /** Set if the lease had no room for a request. */
  lack?: Lack;
  /** Keys of the items that were stored with this lease. */
  stored: Set<string>;
}

interface Lack {
  more: number;
  used: number;
  others: number;
  /** By the clock of `performance.now`. */
  askedAtMs: number;
  /** Reservations of this process that counted. Once one of them has ended, there may be room. */
  ahead: Promise<void>[];
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

  const aheadOf = (ownerId: string): Promise<void>[] => [...(reserved.get(ownerId)?.keys() ?? [])];
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

  const isFresh = (entry: Entry): boolean => Date.now() - entry.leasedAtMs < refreshMs;

  async function lease(ownerId: string, more: number): Promise<Entry> {
    const leasedAtMs = Date.now();
    const askedAtMs = performance.now();
    const held = reservedOf(ownerId);
    const ahead = aheadOf(ownerId);
    const lifetimeS = (refreshMs + IN_FLIGHT_MS) / 1_000;
    const { used, others, leased } = await leases.lease(ownerId, { reserved: held, more, limit, shares: SHARES, lifetimeS });
    // What was held when the lease was asked for has no place in it, also if it has ended since then.
    const left = leased - held;
    const entry: Entry = { left, isShare: left > more, isHeld: leased > 0, leasedAtMs, stored: new Set() };
    if (more > left) entry.lack = { more, used, others, askedAtMs, ahead };
    known.delete(ownerId); // moves it to the end of the map, which is in the order of leasing
    known.set(ownerId, entry);
    for (const [oldest] of known) {
      if (known.size <= MAX_OWNERS) break;
      known.delete(oldest);
    }
    return entry;
  }

  async function giveBack(ownerId: string): Promise<void> {
    try {
      await inTurn(ownerId, async () => {
        const entry = known.get(ownerId);
        if (!entry?.isHeld || entry.isShare || reserved.has(ownerId)) return;
        entry.left = 0;
        entry.isHeld = false;
        await leases.giveBack(ownerId);
      });
    } catch {
      // The lease ends with its lifetime.
    }
  }

  function startReservation(ownerId: string, entry: Entry, count: number, key?: string): EndReservation {
    entry.left -= count;
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const own = reserved.get(ownerId) ?? new Map<Promise<void>, number>();
    reserved.set(ownerId, own.set(ended, count));
    return (isStored) => {
      own.delete(ended);
      if (own.size === 0 && reserved.get(ownerId) === own) reserved.delete(ownerId);
      if (!isStored || (key !== undefined && entry.stored.has(key))) entry.left += count;
      else if (key !== undefined) entry.stored.add(key);
      end();
    };
  }

  function refusal(used: number, more: number): TerminalError {
    const isHeld = used + more <= limit;
    const has = isHeld
      ? `You have ${used} open tasks, and the limit is ${limit}.`
      : `You have ${used} open tasks, and ${more} more would be over the limit of ${limit}. Wait until some have their answers, or cancel them.`;
    const text = refusalMessage?.(used) ?? has;
    return new TerminalError('LIMIT_EXCEEDED', isHeld ? `${text} ${HELD_BY_OTHERS}` : text, { retryAfterS: RETRY_AFTER_S });
  }

  /** What an earlier lease had no room for, if that still holds for this process. */
  function lackOf(ownerId: string, more: number): Lack | undefined {
    const lack = known.get(ownerId)?.lack;
    if (!lack || more < lack.more) return undefined;
    const own = reserved.get(ownerId);
    return lack.ahead.every((one) => own?.has(one)) ? lack : undefined;
  }

  async function reserve(ownerId: string, more: number, key?: string): Promise<EndReservation> {
    /** Only while no change of the lease is under way. */
    const reserveOfLease = (): EndReservation | undefined => {
      const entry = known.get(ownerId);
      return entry && isFresh(entry) && more <= entry.left ? startReservation(ownerId, entry, more, key) : undefined;
    };
    const found = turns.has(ownerId) ? undefined : reserveOfLease();
    if (found) return found;
    const deadlineMs = Date.now() + MAX_WAIT_MS;
    /** When the last outcome that this request knows was asked for. What was found before the request came refuses nothing. */
    let seenMs = performance.now();
    for (let tries = 1; ; tries++) {
      const outcome = await inTurn(ownerId, async (): Promise<{ end: EndReservation } | { lack: Lack; isOld: boolean }> => {
        const end = reserveOfLease();
        if (end) return { end };
        const earlier = lackOf(ownerId, more);
        // Requests that wait at the same time share a lease, so that the store counts once for all of them.
        if (earlier && earlier.askedAtMs > seenMs) return { lack: earlier, isOld: false };
        if (earlier && performance.now() - earlier.askedAtMs < POLL_MS) return { lack: earlier, isOld: true };
        const entry = await lease(ownerId, more);
        return entry.lack ? { lack: entry.lack, isOld: false } : { end: startReservation(ownerId, entry, more, key) };
      });
      if ('end' in outcome) return outcome.end;
      const { lack, isOld } = outcome;
      if (!isOld) seenMs = lack.askedAtMs;
      const isFull = lack.used + more > limit;
      const ahead = aheadOf(ownerId);
      const isLate = lack.ahead.length === 0 && Date.now() > deadlineMs;
      // The owner may have deleted something since an old outcome.
      if (!isOld && (isFull || isLate || tries > MAX_TRIES)) {
        void giveBack(ownerId); // never rejects; the requests of the lease may have ended while it was under way
        throw refusal(lack.used, more);
      }
      if (ahead.length > 0 && !isFull) await Promise.all(ahead);
      else if (isOld || lack.others > 0) await delay(POLL_MS);
    }
  }

  return {
    async reserve(ownerId, more, key) {
      const end = await reserve(ownerId, more, key);
      return (isStored) => {
        end(isStored);
        if (known.get(ownerId)?.isShare === false) void giveBack(ownerId); // never rejects
      };
    },
    async take(ownerId, more) {
      const end = await reserve(ownerId, more);
      setTimeout(() => {
        end(true);
        void giveBack(ownerId); // never rejects
      }, STORED_SOON_MS).unref();
    },
    isTight(ownerId) {
      const entry = known.get(ownerId);
      return entry !== undefined && isFresh(entry) && !entry.isShare;
    },
  };
}
