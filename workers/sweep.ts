import type { ActivityDeps } from '../activities';
import { endTasks } from '../activities/complete';
import { deliver } from '../activities/deliver';
import { missedNudges } from '../activities/missed-nudges';
import { refusingQueues } from '../activities/refusing-queues';
import { groupBatchQueueName, groupQueueName } from '../contracts/names';
import type { SubmissionStart } from '../contracts/submission';
import { concurrently } from '../platform/concurrently';
import { listUndelivered, listUndeliveredGroups, type UndeliveredAnswer, type UndeliveredGroup } from '../platform/store/answers';
import { runExclusively } from '../platform/store/maintenance';
import { listOpenTasks } from '../platform/store/open-tasks';
import { setSharedStates, setSubmissionState } from '../platform/store/submission-progress';
import { listOverdueSubmissions, listUnstarted, readUnfinished } from '../platform/store/submissions';
import { repeat, type Repeating } from './repeat';
import { startSubmissions } from './start-submissions';

/**
 * Finishes what a dead process or an unavailable engine left incomplete: submissions whose workflow did not start, submissions
 * whose workflow vanished or missed its last nudge, and stored answers that were not delivered. Each step is idempotent, so
 * several processes may sweep. One process at a time delivers answers: each delivery is a message to somebody.
 */

const SWEEP_MS = 2_000;
/** The process that accepted a younger submission is most likely still starting it. */
const MIN_UNSTARTED_AGE_MS = 3_000;
const MIN_UNDELIVERED_AGE_MS = 6_000;
/** How long a submission with open tasks may outlast its deadline or its retry before the sweep nudges or checks its workflow. */
const OVERDUE_MS = 10_000;
/** In runs of the sweep; about a minute. */
const MAX_NUDGE_GAP_RUNS = 32;
const BATCH_LIMIT = 1_000;
const DELIVERY_GROUP_LIMIT = 1_000;
/** Limit for the answers of one batch, and for the task groups that share it. */
const DELIVERY_BATCH_LIMIT = 200;
/** No more answers are listed once a batch has this size. */
const DELIVERY_BATCH_BYTES = 8 * 1024 * 1024;
const MAX_BATCHES = 50;
const MAX_CONCURRENT_CALLS = 32;

export function startSweep(deps: ActivityDeps): Repeating {
  const loops = [
    repeat(SWEEP_MS, startMissing, failed('submissions could not be started')),
    repeat(SWEEP_MS, () => runExclusively(deps.db, 'delivery', deliverMissing), failed('answers could not be delivered')),
    repeat(SWEEP_MS, finishMissing, failed('submissions could not be finished')),
  ];
  /** By submission: in how many consecutive runs of the sweep it was overdue. */
  let overdueRuns = new Map<string, number>();
  /** The last of the task groups that the last run listed; undefined after the last group of all. */
  let deliveredUpTo: string | undefined;

  function failed(text: string): (error: unknown) => void {
    return (error) => deps.log.warn({ err: error }, `${text}; the next sweep tries again`);
  }

  async function startMissing(): Promise<void> {
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const unstarted = await listUnstarted(deps.db, new Date(Date.now() - MIN_UNSTARTED_AGE_MS), BATCH_LIMIT);
      if (unstarted.length === 0) return;
      // Several processes sweep. In random order, they seldom start the same submission.
      const started = await startSubmissions(deps, shuffled(unstarted));
      if (started < unstarted.length) return;
    }
  }

  /**
   * Delivers the answers of some task groups; the next run continues with the groups behind them. A group whose queue refused an
   * answer comes last.
   */
  async function deliverMissing(lost: AbortSignal): Promise<void> {
    if (deps.publisher.isBlocked) return;
    const groups = await listUndeliveredGroups(deps.db, MIN_UNDELIVERED_AGE_MS, DELIVERY_GROUP_LIMIT, deliveredUpTo);

    // In random order, no group comes last in every run that has too many answers.
    const mixed = shuffled(groups);
    const refusing = new Set(mixed.filter(isRefusing)); // a group that begins to refuse answers in this run is tried in the next
    let batches = 0;
    for (let page of pagesOf(mixed.filter((group) => !refusing.has(group)))) {
      while (page.length > 0 && batches++ < MAX_BATCHES)
        page = await deliverPage(page, Math.floor(DELIVERY_BATCH_LIMIT / page.length), lost);
    }
    for (const page of pagesOf([...refusing])) {
      // When no queue of a page accepts its answer, the other queues are tried in later runs.
      if ((await deliverPage(page, 1, lost)).length === 0) break;
    }
    deliveredUpTo = groups.length < DELIVERY_GROUP_LIMIT ? undefined : groups.at(-1)?.id;
  }

  /** Delivers up to `limit` answers of each group. Returns the groups that refused none and may have more. */
  async function deliverPage(groups: readonly UndeliveredGroup[], limit: number, lost: AbortSignal): Promise<UndeliveredGroup[]> {
    lost.throwIfAborted();
    // While the broker is blocked, the first publish of these answers may still wait in the socket of another process.
    await deps.publisher.requireFlowing();
    const ids = groups.map(({ id }) => id);
    const answers = await listUndelivered(deps.db, MIN_UNDELIVERED_AGE_MS, ids, limit, DELIVERY_BATCH_BYTES);
    const isCut = answers.reduce((bytes, { frame }) => bytes + frame.length, 0) >= DELIVERY_BATCH_BYTES;
    const refused = new Set((await deliver(deps, answers)).map(({ taskGroupId }) => taskGroupId));
    const listed = countByGroup(answers);
    return groups.filter(({ id }) => !refused.has(id) && (isCut || listed.get(id) === limit));
  }

  async function finishMissing(): Promise<void> {
    const overdue = await listOverdueSubmissions(deps.db, OVERDUE_MS, BATCH_LIMIT);
    overdueRuns = new Map(overdue.map(({ id }) => [id, (overdueRuns.get(id) ?? 0) + 1]));
    const missed = await readUnfinished(deps.db, missedNudges.take(BATCH_LIMIT));
    const due = overdue.filter(({ id }) => isNudgeDue(overdueRuns.get(id) ?? 0));
    const candidates = new Map([...missed, ...due].map((one) => [one.id, one]));
    await concurrently(MAX_CONCURRENT_CALLS, [...candidates.values()], finish);
  }

  async function finish(submission: SubmissionStart): Promise<void> {
    const { id, workflowId } = submission;
    try {
      if ((overdueRuns.get(id) ?? 0) >= MAX_NUDGE_GAP_RUNS && (await deps.temporal.workflowTaskOf(workflowId)) === 'stuck') {
        deps.log.warn({ submissionId: id }, 'the workflow of a submission is stuck; restarting the workflow');
        await deps.temporal.startSubmission(resumed(submission), { instead: true });
        return;
      }
      if (await deps.temporal.nudge(workflowId)) return;
      switch (await deps.temporal.stateOfSubmission(workflowId)) {
        case 'running':
          return;
        case 'missing':
          deps.log.warn({ submissionId: id }, 'the workflow of a submission is missing; starting the workflow again');
          await deps.temporal.startSubmission(resumed(submission));
          return;
        case 'terminated':
          return await endWithoutWorkflow(submission, 'was terminated');
        case 'ended':
          return await endWithoutWorkflow(submission, 'ended');
      }
    } catch (error) {
      missedNudges.add(id);
      deps.log.debug({ err: error, submissionId: id }, 'a submission could not be finished');
    }
  }

  /** A workflow that a person terminated is not started again. */
  async function endWithoutWorkflow({ id, lastId, endpointQueueId }: SubmissionStart, what: string): Promise<void> {
    const open = await listOpenTasks(deps.db, id, lastId ?? id);
    const text = `The workflow of the submission ${what} before the task had an answer.`;
    await endTasks(deps, endpointQueueId, open, { state: 'cancelled', code: 'Cancelled', text });
    const state = open.length > 0 ? 'cancelled' : 'done';
    if (lastId) await setSharedStates(deps.db, id, lastId, state);
    else await setSubmissionState(deps.db, id, state);
  }

  return {
    async close() {
      await Promise.all(loops.map((loop) => loop.close()));
    },
  };
}

/**
 * A submission that is due or has a result was dispatched. Repeating its first dispatch would publish the tasks that are running
 * again. The time is greater than the number of any earlier dispatch.
 */
function resumed(submission: SubmissionStart): SubmissionStart {
  return { ...submission, carried: { dispatches: Date.now() } };
}

/** True after 2, 4, 8, 16 and 32 runs, then after every 32: each nudge lengthens the history that a slow worker must replay. */
function isNudgeDue(runs: number): boolean {
  if (runs >= MAX_NUDGE_GAP_RUNS) return runs % MAX_NUDGE_GAP_RUNS === 0;
  return runs > 1 && Number.isInteger(Math.log2(runs));
}

function isRefusing({ id, ownerId, hasQueue, hasBatchQueue }: UndeliveredGroup): boolean {
  return (
    (hasQueue && refusingQueues.has(groupQueueName(ownerId, id))) ||
    (hasBatchQueue && refusingQueues.has(groupBatchQueueName(ownerId, id)))
  );
}

function pagesOf<T>(items: readonly T[]): T[][] {
  const pages = Math.ceil(items.length / DELIVERY_BATCH_LIMIT);
  return Array.from({ length: pages }, (_, page) => items.slice(page * DELIVERY_BATCH_LIMIT, (page + 1) * DELIVERY_BATCH_LIMIT));
}

function countByGroup(answers: readonly UndeliveredAnswer[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { taskGroupId } of answers) counts.set(taskGroupId, (counts.get(taskGroupId) ?? 0) + 1);
  return counts;
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
