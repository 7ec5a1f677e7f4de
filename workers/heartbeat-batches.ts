import { setTimeout as delay } from 'node:timers/promises';

import type { Database } from '../platform/store/database';
import { recordHeartbeat, recordHeartbeats, type Heartbeat, type RecordedHeartbeat } from '../platform/store/presence';

/** Records the heartbeats of many endpoints with few statements. A heartbeat that arrives alone is recorded immediately. */

/** Minimum time between two statements. Heartbeats may wait this long, because agents send one every few seconds. */
const GAP_MS = 250;
/** Larger reports are recorded alone, so that the reports of a hundred agents do not form one huge statement. */
const MAX_REPORT_CHARS = 64 * 1024;

interface Waiting {
  beat: Heartbeat;
  settle(outcome: Promise<RecordedHeartbeat | undefined>): void;
}

/** Resolves to undefined for a heartbeat that the store ignores or that a later heartbeat replaced before it was recorded. */
export type RecordHeartbeat = (beat: Heartbeat) => Promise<RecordedHeartbeat | undefined>;

export function createHeartbeatBatches(db: Database): RecordHeartbeat {
  /** By queue. */
  const waiting = new Map<string, Waiting>();
  let lastMs = 0;
  let isWriting = false;

  async function write(): Promise<void> {
    if (isWriting) return;
    isWriting = true;
    while (waiting.size > 0) {
      await delay(lastMs + GAP_MS - performance.now());
      lastMs = performance.now();
      const batch = [...waiting.values()];
      waiting.clear();
      // A report that the store refuses, or a locked queue, must not delay the heartbeats of other endpoints.
      const recorded = await recordHeartbeats(
        db,
        batch.map(({ beat }) => beat),
      ).catch(() => undefined);
      for (const { beat, settle } of batch) {
        const outcome = recorded?.get(beat.endpointQueueId);
        settle(outcome ? Promise.resolve(outcome) : recordHeartbeat(db, beat));
      }
    }
    isWriting = false;
  }

  return (beat) => {
    const before = waiting.get(beat.endpointQueueId);
    waiting.delete(beat.endpointQueueId);
    if (before && before.beat.isActive === beat.isActive && before.beat.incarnation === beat.incarnation) {
      before.settle(Promise.resolve(undefined));
    } else if (before) {
      const first = recordHeartbeat(db, before.beat);
      before.settle(first);
      return first.catch(() => undefined).then(() => recordHeartbeat(db, beat)); // its own receiver reports the failure
    }
    if (JSON.stringify(beat.report).length > MAX_REPORT_CHARS) return recordHeartbeat(db, beat);
    return new Promise((settle) => {
      waiting.set(beat.endpointQueueId, { beat, settle });
      void write();
    });
  };
}
