import type { ActivityDeps } from '../activities';
import { endTasks, endTasksOfEndpoint } from '../activities/complete';
import { FLOW_CODE, FLOW_ERROR } from '../contracts/flows';
import type { EndpointQueues } from '../platform/broker-topology';
import type { BrokerUsers } from '../platform/broker-users';
import type { FlowStarts } from '../platform/flow-starts';
import { sweepUploads } from '../platform/store/answers';
import { partitionDaysAhead } from '../platform/metrics';
import { countDaysAhead, createPartitions } from '../platform/store/partitions';
import { endOpenRun } from '../platform/store/flow-run-progress';
import { listDeletedEndpoints, markSwept, reconcileCounts, runExclusively } from '../platform/store/maintenance';
import { removeExpired, removeLeftovers } from '../platform/store/retention';
import { listOpenSubmissions, listOpenTasks } from '../platform/store/open-tasks';
import { setSubmissionState } from '../platform/store/submission-progress';
import { listUnusedUserEndpoints, markCollected, REMEMBERED_S, removeUserEndpoints } from '../platform/store/user-endpoints';
import { repeat, type Repeating } from './repeat';

/**
 * The slow chores: retention, deleted endpoints, submissions and flow runs whose workflow was terminated, and the comparison of
 * counts. A lock in the store ensures that one process at a time runs them. They are not a Temporal schedule, because they must
 * also run while Temporal is unavailable or if the server refuses schedules.
 */

export interface MaintenanceDeps extends ActivityDeps {
  flowStarts: FlowStarts;
  brokerUsers: BrokerUsers;
  queues: EndpointQueues;
}

const TICK_MS = 5_000;
/** Reconciling reads every open task, and finds nothing unless there is a bug. */
const RECONCILE_MS = 600_000;
const RETENTION_MS = 600_000;
const DAY_MS = 86_400_000;
const UPLOADS_KEPT_MS = 7 * DAY_MS;
const ENDPOINT_BATCH_LIMIT = 20;
/** Each distinct `user_endpoint_config` creates another user endpoint; most are used for at most a day. */
const UNUSED_S = 86_400;
const UNUSED_BATCH_LIMIT = 200;
const MIN_KEPT_S = 2 * REMEMBERED_S;
/** For one release: an `api` of the earlier version uses the IDs that it remembers without end, and is replaced after `workers`. */
const UPGRADE_MS = 3_600_000;
/** How far back the first run looks for terminated workflows: longer than this process is usually away. */
const ENDED_WITHIN_MS = DAY_MS;
/** Temporal may list a closed workflow with this delay. */
const VISIBILITY_LAG_MS = 10 * 60_000;

export function startMaintenance(deps: MaintenanceDeps): Repeating {
  const dueAt = { reconcile: 0, retention: 0, removal: Date.now() + UPGRADE_MS };
  const endedSince = { submissions: Date.now() - ENDED_WITHIN_MS, flowRuns: Date.now() - ENDED_WITHIN_MS };
  return repeat(
    TICK_MS,
    () => runExclusively(deps.db, 'maintenance', run),
    (error) => deps.log.warn({ err: error }, 'maintenance failed; the next run tries again'),
  );

  async function run(): Promise<void> {
    await chore('deleted endpoints', sweepDeletedEndpoints);
    await chore('terminated workflows', endTerminated);
    await chore('terminated flow runs', endTerminatedRuns);
    if (isDue('reconcile', RECONCILE_MS)) await chore('counts', reconcile);
    if (isDue('retention', RETENTION_MS)) {
      await chore('retention', retain);
      await chore('unused user endpoints', collectUnused);
    }
    if (isDue('removal', RETENTION_MS)) await chore('old user endpoints', removeOld);
  }

  function isDue(name: keyof typeof dueAt, everyMs: number): boolean {
    if (Date.now() < dueAt[name]) return false;
    dueAt[name] = Date.now() + everyMs;
    return true;
  }

  /** A chore that fails does not stop the others. */
  async function chore(name: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      deps.log.warn({ err: error, chore: name }, 'a chore failed; the next run tries again');
    }
  }

  async function sweepDeletedEndpoints(): Promise<void> {
    for (const { id, endpointQueueIds } of await listDeletedEndpoints(deps.db, ENDPOINT_BATCH_LIMIT)) {
      await endTasksOfEndpoint(deps, id);
      await deps.brokerUsers.revokeEndpoint(id);
      for (const endpointQueueId of endpointQueueIds) await deps.queues.delete(endpointQueueId);
      await markSwept(deps.db, id);
    }
  }

  /** Ends the open tasks of submissions whose workflow ended early: nothing else would end them. */
  async function endTerminated(): Promise<void> {
    const from = Date.now();
    for (const ended of await deps.temporal.listEndedAbnormally(new Date(endedSince.submissions))) {
      const { submissionId, status } = ended;
      // A person has reset the workflow, or the sweep has started it again: another run continues it.
      if ((await deps.temporal.stateOfSubmission(ended.workflowId)) === 'running') continue;
      for (const { id, endpointQueueId } of await listOpenSubmissions(deps.db, { firstId: submissionId })) {
        deps.log.warn({ submissionId: id, status }, 'the workflow of a submission ended early; cancelling its open tasks');
        const text = `The workflow of the submission ended as ${status.toLowerCase()} before the task had an answer.`;
        await endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, id), { state: 'cancelled', code: 'Cancelled', text });
        await setSubmissionState(deps.db, id, 'cancelled');
      }
    }
    endedSince.submissions = from - VISIBILITY_LAG_MS;
  }

  /** Ends runs whose workflow ended early. A run that ends normally records its end before its workflow closes. */
  async function endTerminatedRuns(): Promise<void> {
    const from = Date.now();
    for (const { runId, generation, status } of await deps.flowStarts.listEndedAbnormally(new Date(endedSince.flowRuns))) {
      const cause = `The workflow ended as ${status.toLowerCase()} before its run completed; resume the run to continue it.`;
      const end = { code: FLOW_CODE.failed, description: cause, details: { error: FLOW_ERROR.runtime, cause } };
      if (await endOpenRun(deps.db, { runId, generation }, end))
        deps.log.warn({ runId, status }, 'the workflow of a flow run ended early; the run was marked as failed');
    }
    endedSince.flowRuns = from - VISIBILITY_LAG_MS;
  }

  /** Deletes the queue first, so that after a crash in between the next run repeats both steps. */
  async function collectUnused(): Promise<void> {
    for (const id of await listUnusedUserEndpoints(deps.db, UNUSED_S, UNUSED_BATCH_LIMIT)) {
      await deps.queues.delete(id);
      await markCollected(deps.db, id, UNUSED_S);
    }
  }

  async function removeOld(): Promise<void> {
    const keptS = Math.max(deps.config.FUNCX_RETENTION_DAYS * (DAY_MS / 1_000), MIN_KEPT_S);
    await removeUserEndpoints(deps.db, keptS, UNUSED_BATCH_LIMIT);
  }

  async function reconcile(): Promise<void> {
    const { queues, submissions } = await reconcileCounts(deps.db);
    for (const queue of queues) deps.log.error(queue, 'bug: the in-flight count of an endpoint queue was wrong; repaired');
    for (const one of submissions) {
      deps.log.error(one, 'bug: the count of open tasks of a submission was wrong; repaired');
      await deps.temporal.nudge(one.workflowId);
    }
  }

  async function retain(): Promise<void> {
    const missing = await createPartitions(deps.db, Date.now());
    const days = await countDaysAhead(deps.db, Date.now());
    partitionDaysAhead.set(days);
    if (missing.length > 0) deps.log.warn({ missing }, 'partitions could not be created; the next run tries again');
    if (days < 1) deps.log.error({ missing }, 'the partitions of tomorrow are missing; submits fail from midnight UTC');
    const cutoff = new Date(Date.now() - deps.config.FUNCX_RETENTION_DAYS * DAY_MS);
    const removed = await removeExpired(deps.db, cutoff);
    if (Object.values(removed).some((n: number) => n > 0)) deps.log.info(removed, 'removed data past its retention time');
    await removeLeftovers(deps.db, cutoff);
    await sweepUploads(deps.db, UPLOADS_KEPT_MS);
    await deps.brokerUsers.sweepExpired();
  }
}
