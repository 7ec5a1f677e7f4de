import { concurrently } from '../platform/concurrently';
import type { FlowStarts } from '../platform/flow-starts';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { listUnstartedRuns, type UnstartedRun } from '../platform/store/flow-run-progress';
import { repeat, type Repeating } from './repeat';

/**
 * Starts stored flow runs whose workflow start was not recorded, and then cancels those for which a cancellation was requested
 * meanwhile. Each step is idempotent, so several processes may sweep.
 */

const SWEEP_MS = 3_000;
/** The process that accepted a younger run is most likely still starting it. */
const MIN_AGE_MS = 6_000;
const BATCH_LIMIT = 100;
const MAX_CONCURRENT_STARTS = 16;

export function startFlowSweep(deps: { db: Database; log: Logger; flowStarts: FlowStarts }): Repeating {
  const { db, log, flowStarts } = deps;

  /** A run that fails to start or to be cancelled does not stop the others. */
  async function start({ isCancelled, ...input }: UnstartedRun): Promise<void> {
    try {
      if ((await flowStarts.start(input)) && isCancelled) await flowStarts.cancel(input.runId);
    } catch (error) {
      log.warn({ err: error, runId: input.runId }, 'a flow run was started and could not be cancelled');
    }
  }

  async function sweep(): Promise<void> {
    const unstarted = await listUnstartedRuns(db, new Date(Date.now() - MIN_AGE_MS), BATCH_LIMIT);
    await concurrently(MAX_CONCURRENT_STARTS, unstarted, start);
  }

  return repeat(SWEEP_MS, sweep, (error) =>
    log.warn({ err: error }, 'the sweep could not start flow runs; the next sweep tries again'),
  );
}
