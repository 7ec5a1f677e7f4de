import { concurrently } from '../platform/concurrently';
import type { FlowStarts } from '../platform/flow-starts';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { isStillCancelled, listCancelledRuns, listUnstartedRuns } from '../platform/store/flow-run-progress';
import { repeat, type Repeating } from './repeat';

/**
 * Starts stored flow runs whose workflow start was not recorded, and cancels runs for which a cancellation was requested until
 * they end. Each step is idempotent, so several processes may sweep.
 */

const SWEEP_MS = 2_000;
/** The process that accepted a younger run is most likely still starting it. */
const MIN_AGE_MS = 3_000;
const BATCH_LIMIT = 100;
const MAX_BATCHES = 50;
const MAX_CONCURRENT_CALLS = 16;

export function startFlowSweep(deps: { db: Database; log: Logger; flowStarts: FlowStarts }): Repeating {
  const { db, log, flowStarts } = deps;

  async function sweep(): Promise<void> {
    await startMissing();
    await cancelMissing();
  }

  /** After an outage, the circuit lets one start through; if it succeeds, the next batch finds the circuit closed. */
  async function startMissing(): Promise<void> {
    let failed = 0;
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const runs = await listUnstartedRuns(db, new Date(Date.now() - MIN_AGE_MS), BATCH_LIMIT);
      let started = 0;
      await concurrently(MAX_CONCURRENT_CALLS, runs, async ({ isCancelled, ...run }) => {
        if (!(await flowStarts.start(run))) return;
        started++;
        if (isCancelled) await cancel(run.runId); // at once, before the run does much
      });
      failed = runs.length - started;
      if (started === 0) break;
    }
    if (failed > 0) log.warn({ runs: failed }, 'flow runs could not be started; the next sweep tries again');
  }

  async function cancel(runId: string): Promise<boolean> {
    try {
      await flowStarts.cancel(runId);
      return true;
    } catch (error) {
      log.debug({ err: error, runId }, 'a flow run could not be cancelled');
      return false;
    }
  }

  async function cancelMissing(): Promise<void> {
    let failed = 0;
    await concurrently(MAX_CONCURRENT_CALLS, await listCancelledRuns(db, BATCH_LIMIT), async (run) => {
      // The calls before this one may have taken long, and the user may have resumed the run meanwhile.
      if ((await isStillCancelled(db, run)) && !(await cancel(run.runId))) failed++;
    });
    if (failed > 0) log.warn({ runs: failed }, 'flow runs could not be cancelled; the next sweep tries again');
  }

  return repeat(SWEEP_MS, sweep, (error) =>
    log.warn({ err: error }, 'the sweep of flow runs failed; the next sweep tries again'),
  );
}
