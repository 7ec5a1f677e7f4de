import { createHash, randomUUID } from 'node:crypto';

import { TerminalError } from '../contracts/errors';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import type { Quotas } from './quotas';
import { ensureUserEndpoint, hasUserEndpoint, REMEMBERED_S } from '../platform/store/user-endpoints';

/** Chooses the user endpoint of a stock core endpoint for a submission: one per submitter and canonical configuration. */

/** The stock agent passes both, with credentials, through one pipe of 60 kB. A character may take several bytes. */
const MAX_CONFIG_CHARS = 24_000;
const MAX_RUNTIME_CHARS = 8_000;
const MAX_REMEMBERED = 10_000;

export interface PlacedRequest {
  endpointId: string;
  ownerId: string;
  config: Record<string, unknown> | null | undefined;
  runtime: Record<string, unknown> | null | undefined;
}

export interface Placement {
  /** Returns the ID of the user endpoint's endpoint queue, which it creates if needed. */
  place(request: PlacedRequest): Promise<string>;
  /** Requests the start of the user endpoint without waiting. A failure loses nothing: the tasks wait in the store. */
  wake(endpointQueueId: string): void;
}

export interface UserEndpointStarter {
  wake(endpointQueueId: string): Promise<void>;
}

export function createPlacement(
  db: Database,
  userEndpoints: UserEndpointStarter,
  quotas: Pick<Quotas, 'requireRoomForUserEndpoint'>,
  log: Logger,
): Placement {
  /** Endpoint queue IDs by key, each with the runtime that was stored last, and when. */
  const known = new Map<string, { id: string; runtime: string; storedMs: number }>();

  return {
    async place({ endpointId, ownerId, config, runtime }) {
      const canonical = canonicalJson(config ?? {});
      if (canonical.length > MAX_CONFIG_CHARS) {
        throw new TerminalError(
          'PAYLOAD_TOO_LARGE',
          `user_endpoint_config has ${canonical.length} characters, but the limit is ${MAX_CONFIG_CHARS}; put less in it`,
        );
      }
      const runtimeJson = canonicalJson(runtime ?? {});
      // The runtime only describes the submitter's Python, so it must not fail a submission.
      const storedRuntime = runtimeJson.length > MAX_RUNTIME_CHARS ? '{}' : runtimeJson;
      const configHash = createHash('sha256').update(canonical).digest('hex');
      const key = `${endpointId}/${ownerId}/${configHash}`;
      const present = known.get(key);
      const isFresh = present !== undefined && Date.now() - present.storedMs < REMEMBERED_S * 1_000;
      if (isFresh && present.runtime === storedRuntime) return present.id;
      if (!isFresh && !(await hasUserEndpoint(db, { endpointId, ownerId, configHash })))
        await quotas.requireRoomForUserEndpoint(ownerId);
      const storedMs = Date.now();
      const id = await ensureUserEndpoint(db, {
        endpointId,
        ownerId,
        configHash,
        newId: randomUUID(),
        config: config ?? {},
        runtime: JSON.parse(storedRuntime) as Record<string, unknown>,
      });
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(key, { id, runtime: storedRuntime, storedMs });
      return id;
    },

    wake(endpointQueueId) {
      // After a failure, the process that maintains user endpoints requests the start again within seconds.
      userEndpoints.wake(endpointQueueId).catch((error: unknown) => {
        log.warn({ err: error, endpointQueueId }, 'could not request the start of a user endpoint; trying again');
      });
    },
  };
}

/** JSON with sorted keys, so that equal configurations have equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}
