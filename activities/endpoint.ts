import { Context } from '@temporalio/activity';

import type { EndpointActivities, PumpOutcome } from '../contracts/activities';
import { findUnfinishedClaim, isQueueGone, keepPumping } from '../platform/store/claims';
import type { ActivityDeps } from './deps';
import { dispatchClaim } from './publish-tasks';

const HEARTBEAT_MS = 2_000;
/** How often a pump with a full window looks for places. Also how long it lingers at each empty look. */
const LOOK_MS = 10;
/** After a claim of fewer tasks the pump waits for that long as well: a claim costs as much as the messages of many tasks. */
const FEW = 100;
/** Empty looks before the pump asks whether anything waits at all. */
const LOOKS_BEFORE_END = 20;

export function createEndpointActivities(deps: ActivityDeps): EndpointActivities {
  return {
    async pump({ taskQueueId: endpointQueueId }) {
      const context = Context.current();
      const stopping = context.cancellationSignal;
      // New ids for each try. The store remembers the latest one, until the pump ends well.
      const claimPrefix = `pump/${context.info.workflowExecution?.runId ?? ''}/${context.info.activityId}/${context.info.attempt}`;
      let dispatched = 0;
      let emptyLooks = 0;
      let beatAt = 0;
      let claim = 0;
      const ended = async (): Promise<PumpOutcome> => ({ dispatched, isGone: await isQueueGone(deps.db, endpointQueueId) });
      // Before anything else, also before asking whether anything waits: a pump that died after its claim left tasks that
      // count as dispatched and that nobody has.
      const unfinished = await findUnfinishedClaim(deps.db, endpointQueueId);
      if (unfinished !== undefined) dispatched += (await dispatchClaim(deps, endpointQueueId, unfinished)).length;
      if (!(await keepPumping(deps.db, endpointQueueId))) return await ended();
      while (!stopping.aborted) {
        const now = Date.now();
        if (now - beatAt >= HEARTBEAT_MS) {
          if (!(await keepPumping(deps.db, endpointQueueId))) return await ended();
          context.heartbeat(claim);
          beatAt = now;
        }
        const published = await dispatchClaim(deps, endpointQueueId, `${claimPrefix}/${claim}`);
        if (published.length > 0) {
          dispatched += published.length;
          claim++;
          emptyLooks = 0;
          if (published.length < FEW) await pause(LOOK_MS, stopping);
          continue;
        }
        if (++emptyLooks >= LOOKS_BEFORE_END) {
          if (!(await keepPumping(deps.db, endpointQueueId))) return await ended();
          emptyLooks = 0;
        }
        await pause(LOOK_MS, stopping);
      }
      throw stopping.reason instanceof Error ? stopping.reason : new Error('the worker shuts down');
    },
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
