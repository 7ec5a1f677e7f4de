import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { findSocketGroup, markTaken } from '../../platform/store/socket-deliveries';

/** The last result that each group's client received. Kept in memory until stored, as clients may reconnect before that. */

export interface TakenCursor {
  /** Undefined if the group has no submission yet. */
  read(groupId: string): Promise<{ ownerId: string; seq: number } | undefined>;
  /** Records that results up to this sequence number have arrived. */
  advance(groupId: string, seq: number): void;
  /** Resolves when all writes have succeeded or failed. */
  flush(): Promise<void>;
}

export function createTakenCursor(db: Database, log: Logger): TakenCursor {
  const ahead = new Map<string, number>();
  const writing = new Set<Promise<void>>();

  async function write(groupId: string, seq: number): Promise<void> {
    try {
      await markTaken(db, groupId, seq);
    } catch (error) {
      log.warn({ err: error, groupId }, 'could not store which results a client received; it may receive them again');
    }
    if (ahead.get(groupId) === seq) ahead.delete(groupId);
  }

  return {
    async read(groupId) {
      const known = ahead.get(groupId) ?? 0; // Read before the query: the entry may be written and deleted meanwhile.
      const row = await findSocketGroup(db, groupId);
      return row && { ownerId: row.ownerId, seq: Math.max(row.takenSeq, known) };
    },

    advance(groupId, seq) {
      if ((ahead.get(groupId) ?? 0) >= seq) return;
      ahead.set(groupId, seq);
      const work: Promise<void> = write(groupId, seq).finally(() => writing.delete(work));
      writing.add(work);
    },

    async flush() {
      await Promise.all(writing);
    },
  };
}
