import { Context } from '@temporalio/activity';

import { keepPumping } from '../platform/store/claims';
import type { ActivityDeps } from './deps';
import { dispatchClaim } from './publish-tasks';

export interface EndpointActivities {
  /** Dispatches whatever waits at a queue, until nothing waits or the endpoint is gone. */
  pump(input: { taskQueueId: string }): Promise<{ dispatched: number }>;
}

const HEARTBEAT_MS = 2_000;
/** How often a pump with a full window looks for places. Also how long it lingers at each empty look. */
const LOOK_MS = 10;
/** Empty looks before the pump asks whether anything waits at all. */
const LOOKS_BEFORE_END = 20;

export function createEndpointActivities(deps: ActivityDeps): EndpointActivities {
  return {
    async pump({ taskQueueId }) {
      const context = Context.current();
      const stopping = context.cancellationSignal;
      // The claim ids of one activity stay the same over its attempts: what a killed pump claimed is published again.
      const claimPrefix = `pump/${context.info.workflowExecution?.runId ?? ''}/${context.info.activityId}`;
      let dispatched = 0;
      let emptyLooks = 0;
      let beatAt = 0;
      let claim = (context.info.heartbeatDetails as number | undefined) ?? 0;
      if (!(await keepPumping(deps.db, taskQueueId))) return { dispatched };
      while (!stopping.aborted) {
        const now = Date.now();
        if (now - beatAt >= HEARTBEAT_MS) {
          if (!(await keepPumping(deps.db, taskQueueId))) return { dispatched };
          context.heartbeat(claim);
          beatAt = now;
        }
        const published = await dispatchClaim(deps, taskQueueId, `${claimPrefix}/${claim}`);
        if (published.length > 0) {
          dispatched += published.length;
          claim++;
          emptyLooks = 0;
          continue;
        }
        if (++emptyLooks >= LOOKS_BEFORE_END) {
          if (!(await keepPumping(deps.db, taskQueueId))) return { dispatched };
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
