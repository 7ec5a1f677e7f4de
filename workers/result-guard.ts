import { randomUUID } from 'node:crypto';

import { ERROR_CATALOGUE } from '../contracts/errors';
import type { Logger } from '../platform/log';
import { insertAuditEntries } from '../platform/store/audit';
import type { Database } from '../platform/store/database';
import { endpointOfQueue, lockEndpoint } from '../platform/store/endpoints';

/**
 * All results come through one queue, so an agent that floods it with large messages delays the results of everybody. An agent
 * that sends too many bytes of unsolicited messages (results of unknown or foreign tasks, unreadable messages) is cut off: its
 * credentials are deleted, it may not register for a while, and its large messages on the queue are dropped unread.
 */
export interface ResultGuard {
  drops(endpointQueueId: string, bytes: number): boolean;
  /** Call with each unsolicited message. */
  note(endpointQueueId: string, bytes: number): void;
}

export interface ResultGuardDeps {
  db: Database;
  log: Logger;
  /** Deletes the agent's users at the broker, which closes its connections. */
  users: { revokeEndpoint(endpointId: string): Promise<void> };
}

/** An honest agent sends no unsolicited messages, except a few late results of tasks that were removed. */
const LIMIT_BYTES = 32 * 1024 * 1024;
const WITHIN_MS = 60_000;
const CUT_OFF_S = 600;
/** Smaller messages of an agent that is cut off are still processed: they cost little, and may be results of its own tasks. */
const LARGE_BYTES = 64 * 1024;
const MAX_QUEUES = 10_000;

export function createResultGuard({ db, log, users }: ResultGuardDeps): ResultGuard {
  const seen = new Map<string, { bytes: number; sinceMs: number }>();
  const cutOffUntil = new Map<string, number>();

  async function cutOff(endpointQueueId: string): Promise<void> {
    const owner = await endpointOfQueue(db, endpointQueueId);
    if (!owner) return;
    await lockEndpoint(db, owner.endpointId, CUT_OFF_S);
    await users.revokeEndpoint(owner.endpointId);
    const entry = {
      at: new Date().toISOString(),
      identity: owner.ownerId,
      name: owner.ownerName,
      action: 'send results',
      objects: { endpoint: owner.endpointId },
      address: null,
      outcome: 'refused' as const,
      status: ERROR_CATALOGUE.LIMIT_EXCEEDED.status,
      code: 'LIMIT_EXCEEDED',
      request_id: randomUUID(),
    };
    log.warn(
      { audit: entry },
      `an agent sent more than ${LIMIT_BYTES} bytes of unsolicited results; it is cut off for ${CUT_OFF_S} s`,
    );
    await insertAuditEntries(db, [entry]);
  }

  return {
    drops: (endpointQueueId, bytes) => bytes > LARGE_BYTES && (cutOffUntil.get(endpointQueueId) ?? 0) > Date.now(),
    note(endpointQueueId, bytes) {
      const nowMs = Date.now();
      const before = seen.get(endpointQueueId);
      const isRecent = before !== undefined && nowMs - before.sinceMs < WITHIN_MS;
      const counted = isRecent ? { ...before, bytes: before.bytes + bytes } : { bytes, sinceMs: nowMs };
      if (seen.size >= MAX_QUEUES) seen.clear();
      seen.set(endpointQueueId, counted);
      if (counted.bytes <= LIMIT_BYTES || (cutOffUntil.get(endpointQueueId) ?? 0) > nowMs) return;
      if (cutOffUntil.size >= MAX_QUEUES) cutOffUntil.clear();
      cutOffUntil.set(endpointQueueId, nowMs + CUT_OFF_S * 1_000);
      cutOff(endpointQueueId).catch((error: unknown) => {
        log.warn({ err: error, endpointQueueId }, 'an agent that sends unsolicited results could not be cut off yet');
        cutOffUntil.delete(endpointQueueId); // its next message tries again
      });
    },
  };
}
