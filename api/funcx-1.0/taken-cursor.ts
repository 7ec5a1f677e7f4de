import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { findSocketGroup, markTaken } from '../../platform/store/socket-deliveries';

/** How far each group was taken: known here at once, in the store a moment later. A client reconnects faster than that. */

export interface TakenCursor {
  /** Undefined while nobody has submitted to the group. */
  read(groupId: string): Promise<{ ownerId: string; seq: number } | undefined>;
  /** Everything up to this sequence number has arrived. */
  advance(groupId: string, seq: number): void;
  /** Resolves when everything is in the store, or could not be written. */
  flush(): Promise<void>;
}

export function createTakenCursor(db: Database, log: Logger): TakenCursor {
  const ahead = new Map<string, number>();
  const writing = new Set<Promise<void>>();

  async function write(groupId: string, seq: number): Promise<void> {
    try {
      await markTaken(db, groupId, seq);
    } catch (error) {
      log.warn({ err: error, groupId }, 'could not note which results were taken; they may be sent again');
    }
    if (ahead.get(groupId) === seq) ahead.delete(groupId);
  }

  return {
    async read(groupId) {
      const known = ahead.get(groupId) ?? 0; // before the query: it may be written and forgotten meanwhile
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
