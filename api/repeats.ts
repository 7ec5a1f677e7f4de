import { randomUUID } from 'node:crypto';

import type { Response } from 'express';

import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import {
  forgetUnanswered,
  hasLostRequest,
  markLostOfListener,
  saveLost,
  takeLostRequest,
  type UnansweredRequest,
} from '../platform/store/unanswered-requests';
import type { Accepted } from '../accepting/accept';

/**
 * Repeated submits (protocol/globus-compute-4, section 5): an equal request is answered like an earlier one only if that
 * one's answer was never written out, because its connection is gone or its process died. In doubt a submit is new: work
 * that is done twice costs time, two calls that are merged into one are wrong.
 */
export interface Repeats {
  /** What is stored with the bodies of a request until its answer is written. */
  entry(bodyHash: Buffer): UnansweredRequest;
  hasLost(ownerId: string, bodyHash: Buffer): Promise<boolean>;
  /** The answer of the earlier equal request, once. */
  takeLost<T = Accepted>(ownerId: string, bodyHash: Buffer): Promise<T | undefined>;
  /** Call right before the answer is written: from now on an equal request is new, unless this answer can't be written. */
  beforeAnswer(
    res: Response,
    entry: UnansweredRequest,
    request: { ownerId: string; endpointId: string; response: unknown },
  ): Promise<void>;
  /** What a process that listened at our address left behind can be matched. Call when we listen. */
  takeOver(listener: string): Promise<void>;
}

export function createRepeats(db: Database, log: Logger): Repeats {
  const process = randomUUID();
  let listener = `none/${process}`; // until it listens
  // A repeat may come first thing after a restart: it waits until what the dead process left is marked.
  let release: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (release = resolve));

  async function lose(entry: UnansweredRequest, request: Parameters<Repeats['beforeAnswer']>[2]): Promise<void> {
    try {
      await saveLost(db, { ...entry, ...request });
    } catch (error) {
      log.warn({ err: error }, 'could not note that an answer was lost; a repeat of it runs again');
    }
  }

  return {
    entry: (bodyHash) => ({ id: randomUUID(), bodyHash, listener, process }),

    async hasLost(ownerId, bodyHash) {
      await ready;
      return hasLostRequest(db, ownerId, bodyHash);
    },

    async takeLost<T>(ownerId: string, bodyHash: Buffer) {
      return (await takeLostRequest(db, ownerId, bodyHash)) as T | undefined; // the hash is of the path too, so one route wrote it
    },

    async beforeAnswer(res, entry, request) {
      if (res.closed || res.destroyed) return lose(entry, request);
      await forgetUnanswered(db, entry.id);
      if (res.closed || res.destroyed) return lose(entry, request);
      res.once('close', () => {
        if (!res.writableFinished) void lose(entry, request);
      });
    },

    async takeOver(address) {
      listener = address;
      try {
        const lost = await markLostOfListener(db, listener, process);
        if (lost > 0) log.info({ lost }, 'a process before this one died with requests unanswered; repeats of them are known');
      } catch (error) {
        log.warn({ err: error }, 'could not look for requests that were left unanswered; repeats of them run again');
      } finally {
        release();
      }
    },
  };
}
