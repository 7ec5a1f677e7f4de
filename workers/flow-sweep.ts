import type { FlowStarts } from '../platform/flow-starts';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { listUnstartedRuns } from '../platform/store/flow-run-progress';

/**
 * Starts stored flow runs whose workflow start was not recorded, and then cancels those for which a cancellation was requested
 * meanwhile. Each step is idempotent, so several processes may sweep.
 */

const SWEEP_MS = 3_000;
/** The process that accepted a younger run is most likely still starting it. */
const MIN_AGE_MS = 6_000;
const BATCH_LIMIT = 100;

export function startFlowSweep(deps: { db: Database; log: Logger; flowStarts: FlowStarts }): { close(): Promise<void> } {
  const { db, log, flowStarts } = deps;
  let current: Promise<void> | undefined;
  const timer = setInterval(() => {
    current ??= sweep().finally(() => (current = undefined));
  }, SWEEP_MS);

  async function sweep(): Promise<void> {
    try {
      for (const { isCancelled, ...input } of await listUnstartedRuns(db, new Date(Date.now() - MIN_AGE_MS), BATCH_LIMIT)) {
        if ((await flowStarts.start(input)) && isCancelled) await flowStarts.cancel(input.runId);
      }
    } catch (error) {
      log.warn({ err: error }, 'the sweep could not start flow runs; the next sweep tries again');
    }
  }

  return {
    async close() {
      clearInterval(timer);
      await current;
    },
  };
}
