import { setTimeout as delay } from 'node:timers/promises';

import type { ActivityDeps } from '../activities';
import { claimedBefore, dispatchClaim } from '../activities/publish-tasks';
import { firstClaimOf } from '../accepting/claim-at-insert';
import { lowestIdAt } from '../contracts/ids';
import type { SubmissionStart } from '../contracts/submission';
import { concurrently } from '../platform/concurrently';
import { settleClaim } from '../platform/store/claims';
import { runExclusively } from '../platform/store/maintenance';
import { listQueuesToPump, type QueueToPump } from '../platform/store/presence';
import { LEASE_RENEWAL_MS, listProcesses, markTakenOver, renewLease, type ServiceProcess } from '../platform/store/processes';
import { listLatest, listUnstarted } from '../platform/store/submissions';
import { processIdOf } from '../platform/temporal';
import { repeat, type Repeating } from './repeat';
import { startSubmissions } from './start-submissions';

/**
 * Dispatches what a killed process had accepted and not dispatched. A process that starts the workflow of a submission also takes
 * its first workflow task, in which it dispatches. When it is killed, Temporal gives this task to another process only after 10 s.
 * Until then the tasks would wait, also those of other submissions that the process had claimed with them or requested a pump for.
 */

const POLL_INTERVAL_MS = 250;
/** Longer than the renewal interval: a live process without sessions gets one when it renews its lease. */
const DEAD_AFTER_MS = 700;
/** What a process had requested before it was killed may still happen: it is checked again until this long after its last renewal. */
const LAST_CHECK_MS = 3_000;
const CHECK_INTERVAL_MS = 500;
/** The process that checks knows what it could not publish as a whole. Another one checks only if it no longer does. */
const UNATTENDED_MS = 1_500;
/** A submission that a live process accepted longer ago has most likely been started. */
const MIN_UNSTARTED_AGE_MS = 1_000;
/** Later, Temporal is about to give the workflow tasks to another process. */
const FORGET_AFTER_MS = 8_000;
const TAKEOVER_MS = 5_000;
/** A first step that may claim tasks of others begins within 3 s of the accept, and takes at most 4 s as a local activity. */
const ACCEPTED_BEFORE_MS = 8_000;
/** An `api` that was alive at its last renewal was killed at most this much later. */
const KILLED_AFTER_MS = 2_000;
/** The clocks of two machines may differ by this much. */
const CLOCK_MS = 5_000;
const RETRY_MS = 500;
const BATCH_LIMIT = 1_000;
const MAX_CONCURRENT_CALLS = 32;

/** `processId` is the ID of this process, which other processes take over from if it is killed. */
export function startTakeover(deps: ActivityDeps, processId: string): Repeating {
  /** The processes that this process has seen with a session: the others may have sessions of another name. */
  const seen = new Set<string>();
  /** When each of these was first seen without a session. */
  const silentSince = new Map<string, number>();
  /** Submissions that are not checked again: their first task is over, or they were dispatched here. */
  const settled = new Set<string>();
  /** Endpoint queues whose pump was requested here after the latest death. */
  const pumped = new Set<string>();
  const closing = new AbortController();
  let pausedUntilMs = 0;

  const lease = repeat(
    LEASE_RENEWAL_MS,
    () => renewLease(deps.db, processId),
    (error) => deps.log.warn({ err: error }, 'the lease of this process could not be renewed'),
  );
  const takeover = repeat(POLL_INTERVAL_MS, poll, (error) => {
    pausedUntilMs = Date.now() + RETRY_MS;
    deps.log.warn({ err: error }, 'could not continue what a killed process had begun; trying again');
  });
  return {
    async close() {
      closing.abort();
      await Promise.all([lease.close(), takeover.close()]);
    },
  };

  async function poll(): Promise<void> {
    if (Date.now() < pausedUntilMs) return;
    const processes = await listProcesses(deps.db, FORGET_AFTER_MS).catch((error: unknown) => {
      // While the store is unavailable, other loops report it. Nothing is continued then.
      deps.log.debug({ err: error }, 'could not list the processes; trying again');
      pausedUntilMs = Date.now() + RETRY_MS;
    });
    if (processes === undefined) return;
    const dead = findDead(processes);
    if (dead.length === 0) settled.clear();
    if (!dead.some(needsCheck)) return;
    await runExclusively(deps.db, 'killed', async (lost) => {
      // Another replica may have done so since.
      const unattended = findDead(await listProcesses(deps.db, FORGET_AFTER_MS)).filter(needsCheck);
      if (unattended.length === 0) return;
      if (unattended.some(({ takenOverMs }) => takenOverMs === null)) pumped.clear(); // this one may have recorded other pumps
      const stop = AbortSignal.any([lost, closing.signal, AbortSignal.timeout(TAKEOVER_MS)]);
      // A publish may wait for the broker for longer. It goes on, and nobody waits for it.
      await Promise.race([takeOver(unattended, stop), aborted(stop)]);
      if (!stop.aborted) await markTakenOver(deps.db, unattended, processId);
    });
  }

  function findDead(processes: readonly ServiceProcess[]): ServiceProcess[] {
    const present = new Set(processes.map(({ id }) => id));
    for (const known of [seen, silentSince]) for (const id of known.keys()) if (!present.has(id)) known.delete(id);
    for (const { id, hasSession } of processes) {
      if (hasSession) {
        seen.add(id);
        silentSince.delete(id);
      } else if (!silentSince.has(id)) silentSince.set(id, Date.now());
    }
    return processes.filter(({ id, ageMs, hasSession }) => {
      const silentMs = Date.now() - (silentSince.get(id) ?? Date.now());
      return !hasSession && seen.has(id) && Math.min(silentMs, ageMs) >= DEAD_AFTER_MS;
    });
  }

  /** Nobody has continued what this process had begun, or what it had requested may have happened since. */
  function needsCheck({ ageMs, takenOverMs, takenOverBy }: ServiceProcess): boolean {
    if (takenOverMs === null) return true;
    const pauseMs = takenOverBy === processId ? CHECK_INTERVAL_MS : UNATTENDED_MS;
    return takenOverMs >= pauseMs && ageMs - takenOverMs < LAST_CHECK_MS;
  }

  async function takeOver(dead: readonly ServiceProcess[], stop: AbortSignal): Promise<void> {
    const ids = new Set(dead.map(({ id }) => id));
    const aliveAt = dead.map((one) => one.aliveAt.getTime());
    const fromMs = Math.min(...aliveAt) - ACCEPTED_BEFORE_MS - CLOCK_MS;
    const toMs = Math.max(...aliveAt) + KILLED_AFTER_MS + CLOCK_MS;
    const storeMs = Math.max(...dead.map((one) => one.aliveAt.getTime() + one.ageMs));
    const outcomes = await Promise.allSettled([
      startUnstarted(new Date(storeMs - MIN_UNSTARTED_AGE_MS)),
      dispatchHeld(ids, fromMs, toMs, stop),
      listQueuesToPump(deps.db, new Date(fromMs), []).then((queues) => requestPumps(queues, stop)),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async function startUnstarted(acceptedBefore: Date): Promise<void> {
    await startSubmissions(deps, await listUnstarted(deps.db, acceptedBefore, BATCH_LIMIT));
  }

  /** Continues the submissions whose first workflow task one of these processes has, the latest first. */
  async function dispatchHeld(processes: ReadonlySet<string>, fromMs: number, toMs: number, stop: AbortSignal): Promise<void> {
    const queueIds = new Set<string>();
    let flowing: Promise<void> | undefined;
    let dispatched = 0;
    let page: SubmissionStart[];
    let beforeId = lowestIdAt(toMs);
    do {
      page = await listLatest(deps.db, lowestIdAt(fromMs), beforeId, BATCH_LIMIT);
      await concurrently(MAX_CONCURRENT_CALLS, page, async (submission) => {
        if (stop.aborted || settled.has(submission.id)) return;
        const { isOver, holder } = await deps.temporal.firstTaskOf(submission.workflowId);
        if (isOver) settled.add(submission.id);
        if (holder === undefined || !processes.has(processIdOf(holder) ?? '')) return;
        flowing ??= deps.publisher.requireFlowing();
        await flowing;
        if (await dispatchClaimed(submission)) dispatched++;
        queueIds.add(submission.endpointQueueId);
      });
      beforeId = page.at(-1)?.id ?? beforeId;
    } while (page.length > 0 && !stop.aborted);
    // What the process had claimed is published; a pump dispatches what waits.
    if (queueIds.size > 0) await requestPumps(await listQueuesToPump(deps.db, new Date(fromMs), [...queueIds]), stop);
    if (dispatched > 0) deps.log.warn({ submissions: dispatched }, 'dispatched submissions of a process that was killed');
  }

  /**
   * Publishes what the first step of the workflow had claimed. When Temporal repeats the step, it finds the claim settled. After a
   * failure here it publishes what is left: this process does not publish it again, because a part may be at the broker.
   */
  async function dispatchClaimed({ id, endpointQueueId }: SubmissionStart): Promise<boolean> {
    const claimId = firstClaimOf(id);
    const claimed = await claimedBefore(deps, endpointQueueId, claimId);
    if (claimed.length === 0 || settled.has(id)) return false;
    settled.add(id);
    try {
      // The broker was asked whether it accepts messages.
      const taskIds = await dispatchClaim(deps, endpointQueueId, claimId, { isRepeated: false, claimed });
      await settleClaim(deps.db, claimId, taskIds);
      return true;
    } catch (error) {
      deps.log.warn({ err: error, submissionId: id }, 'could not dispatch a submission of a killed process; its workflow will');
      return false;
    }
  }

  /** A process records that it requests a pump, so that no other process does, and then requests it. */
  async function requestPumps(queues: readonly QueueToPump[], stop: AbortSignal): Promise<void> {
    await concurrently(MAX_CONCURRENT_CALLS, queues, async ({ endpointQueueId, endpointId, endpointName }) => {
      if (stop.aborted || pumped.has(endpointQueueId)) return;
      await deps.temporal.signalWaiting({ version: 1, taskQueueId: endpointQueueId, endpointId, endpointName });
      pumped.add(endpointQueueId);
    });
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  // The longest delay is never reached: the signal aborts before.
  await delay(2 * TAKEOVER_MS, undefined, { signal }).catch(() => undefined);
}
