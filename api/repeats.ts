import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import type { Response } from 'express';

import { TerminalError } from '../contracts/errors';
import type { Logger } from '../platform/log';
import { createGathering, MAX_UNDER_WAY } from '../platform/gather';
import type { Database } from '../platform/store/database';
import { LEASE_RENEWAL_MS, renewLease } from '../platform/store/processes';
import {
  forgetUnanswered,
  findEqualRequests,
  insertUnanswered,
  markLostOfListener,
  saveLost,
  settleInDoubt,
  takeLostRequest,
  type InDoubt,
  type RequestKey,
  type UnansweredRequest,
} from '../platform/store/unanswered-requests';
import type { Accepted } from '../accepting/accept-request';

/**
 * Recognizes repeated submits without an Idempotency-Key: globus-sdk 4 repeats a POST whose response it did not read, and has
 * no key to send (`globus_sdk/transport/default_retry_checks.py`). A request gets the response of an earlier equal request only
 * if that response was never written, because the connection, the process or the store died. In doubt, a submit is new: running
 * work twice costs time, but merging two submits into one is wrong.
 */
export interface Repeats {
  /** The record that is stored with the bodies of a request until the response is written. */
  entry(bodyHash: Buffer): UnansweredRequest;
  /**
   * Runs the statement that stores the request with its record. A statement that fails may have stored both, if the connection to
   * the store was lost before its response. Then a repeat gets the response that the first request would have got.
   */
  store<T>(entry: UnansweredRequest | undefined, of: Requested, work: () => Promise<T>): Promise<T>;
  /** Stores the record alone, before what the request asks for. A request with its own statement stores both with `store`. */
  record(entry: UnansweredRequest, request: Requested & { response: unknown }): Promise<void>;
  /** Call when the response is an error although the request, or a part of it, may be stored with its record. */
  abandon(entry: UnansweredRequest, of: Requested): void;
  /** Call when the response is an error and nothing of the request is stored, except for its record. Never throws. */
  forget(entry: UnansweredRequest): Promise<void>;
  hasLost(ownerId: string, bodyHash: Buffer): Promise<boolean>;
  /** Takes the response of the earlier equal request, once. Until the response to the repeat is written, `entry` guards it. */
  takeLost<T = Accepted>(bodyHash: Buffer, of: Requested): Promise<{ entry: UnansweredRequest; response: T } | undefined>;
  /** Call right before writing the response. From then on an equal request is new, unless writing this response fails. */
  beforeAnswer(res: Response, entry: UnansweredRequest, request: Requested & { response: unknown }): Promise<void>;
  /** Makes the unanswered requests of an earlier process at this address available to repeats. Call after listening. */
  takeOver(listener: string): Promise<void>;
  /** Stops renewing the lease. Call when all responses are written. */
  close(): void;
}

interface Requested {
  ownerId: string;
  /** The endpoint, the flow, or another object of the request. */
  endpointId: string;
}

const POLL_INTERVAL_MS = 200;
/** Renewing the lease waits no longer than this for requests in doubt. */
const SETTLE_MS = 1_000;
/** The most requests in doubt. While the store is unavailable, every submit becomes one. */
const MAX_IN_DOUBT = 10_000;
const FORGET_TRIES = 60;
const FORGET_RETRY_MS = 1_000;

/** `process` is the ID of this start of the process. */
export function createRepeats(db: Database, log: Logger, process: string = randomUUID()): Repeats {
  let listener = `none/${process}`; // until takeOver names the address
  // A repeat may arrive right after a restart; it waits until takeOver has marked the requests of the dead process.
  let release: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (release = resolve));

  const findEqual = createGathering((requests: readonly RequestKey[]) => findEqualRequests(db, requests, process));
  const forgetAnswered = createGathering(async (ids: readonly string[]) => {
    await forgetUnanswered(db, ids);
    return ids;
  });

  async function lose(entry: UnansweredRequest, request: Parameters<Repeats['beforeAnswer']>[2]): Promise<void> {
    try {
      await saveLost(db, { ...entry, ...request });
    } catch (error) {
      log.warn({ err: error }, 'could not record that a response was lost; a repeat of the request will run its tasks again');
    }
  }

  /** Requests whose response is an error, by ID, until the store shows whether they are stored. */
  const inDoubt = new Map<string, InDoubt>();

  async function settle(requests: readonly InDoubt[]): Promise<void> {
    if (requests.length === 0) return;
    const stored = await settleInDoubt(db, requests);
    for (const { id } of requests) inDoubt.delete(id);
    if (stored.size > 0)
      log.info({ stored: stored.size }, 'requests that failed are stored; repeats of them get their responses');
  }

  let removals = 0;
  let renewals: NodeJS.Timeout | undefined;
  let isRenewing = false;
  /** Never runs twice at the same time. After a failure, the next interval renews the lease. */
  function renew(): void {
    if (isRenewing) return;
    isRenewing = true;
    // Settle first: another process that waits for this lease continues once it is renewed, and must then see these requests.
    const settled = settle([...inDoubt.values()]).catch((error: unknown) =>
      log.warn({ err: error, requests: inDoubt.size }, 'could not check which failed requests are stored; trying again'),
    );
    Promise.race([settled, delay(SETTLE_MS, undefined, { ref: false })])
      .then(() => renewLease(db, process))
      .catch((error: unknown) => log.warn({ err: error }, 'the lease of this process could not be renewed'))
      .finally(() => (isRenewing = false));
  }

  /** Never throws. The work is durable, so its response must not become an error, which would make clients repeat the request. */
  async function forget(entryId: string, triesLeft = FORGET_TRIES): Promise<void> {
    try {
      await forgetAnswered(entryId);
    } catch (error) {
      log.warn({ err: error, triesLeft }, 'the record of an answered request could not be removed');
      if (triesLeft > 0) setTimeout(() => void forget(entryId, triesLeft - 1), FORGET_RETRY_MS).unref();
    }
  }

  const entryOf = (bodyHash: Buffer): UnansweredRequest => ({ id: randomUUID(), bodyHash, listener, process });

  /** Needs no store, because the store may be what failed. A repeat at any process finds the request once it is settled. */
  function abandon(entry: UnansweredRequest, { ownerId, endpointId }: Requested): void {
    if (inDoubt.size < MAX_IN_DOUBT) inDoubt.set(entry.id, { ...entry, ownerId, endpointId });
  }

  async function store<T>(entry: UnansweredRequest | undefined, of: Requested, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      // After a refusal, it is certain that nothing was stored.
      if (entry && !(error instanceof TerminalError)) abandon(entry, of);
      throw error;
    }
  }

  return {
    close: () => clearInterval(renewals),
    entry: entryOf,
    store,
    record: (entry, request) => store(entry, request, () => insertUnanswered(db, { ...entry, ...request })),
    abandon,
    forget: (entry) => forget(entry.id),

    async hasLost(ownerId, bodyHash) {
      await ready;
      await settle([...inDoubt.values()].filter((one) => one.ownerId === ownerId && one.bodyHash.equals(bodyHash)));
      const first = await findEqual({ ownerId, bodyHash });
      if (first.state !== 'pending') return first.state === 'lost';
      // Another process accepted an equal request. If it lives, this request is new; if it died, this may be the repeat.
      for (;;) {
        await delay(POLL_INTERVAL_MS);
        const now = await findEqual({ ownerId, bodyHash });
        if (now.state !== 'pending') return now.state === 'lost';
        if (now.aliveAt > first.aliveAt) return false;
      }
    },

    async takeLost<T>(bodyHash: Buffer, of: Requested) {
      const entry = entryOf(bodyHash);
      const response = await store(entry, of, () => takeLostRequest(db, of.ownerId, entry));
      // The hash covers the path, so the same route wrote the response.
      return response === undefined ? undefined : { entry, response: response as T };
    },

    async beforeAnswer(res, entry, request) {
      if (res.closed || res.destroyed) return lose(entry, request);
      const isSentNow = removals < MAX_UNDER_WAY;
      removals++;
      const removed = forget(entry.id).finally(() => removals--);
      // Remove the record and send the response at the same time. After a removal that came first, the process could die before
      // it writes the response, and the repeat would run the work again. Wait only for a removal that has to queue: until the
      // record is removed, an equal new request could look like a repeat.
      if (!isSentNow) await removed;
      const loseLate = (): Promise<void> => removed.then(() => lose(entry, request));
      if (res.closed || res.destroyed) return loseLate();
      res.once('close', () => {
        if (!res.writableFinished) void loseLate();
      });
    },

    async takeOver(address) {
      listener = address;
      renewals = setInterval(renew, LEASE_RENEWAL_MS);
      try {
        await renewLease(db, process);
        const lost = await markLostOfListener(db, listener, process);
        if (lost > 0)
          log.info({ lost }, 'an earlier process died with unanswered requests; repeats of them will get the original response');
      } catch (error) {
        log.warn(
          { err: error },
          'could not find the unanswered requests of an earlier process; repeats of them will run their tasks again',
        );
      } finally {
        release();
      }
    },
  };
}
