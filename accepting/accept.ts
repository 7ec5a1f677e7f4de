import { randomUUID } from 'node:crypto';

import { TerminalError } from '../contracts/errors';
import type { SubmissionStart } from '../contracts/submission';
import type { Config } from '../platform/config';
import { concurrently } from '../platform/concurrently';
import { failPoint } from '../platform/fail-points';
import type { Logger } from '../platform/log';
import { workflowStarts } from '../platform/metrics';
import type { Database } from '../platform/store/database';
import { leasesOf } from '../platform/store/quotas';
import { insertShared } from '../platform/store/shared-submissions';
import { insertSubmissions, readAccepted } from '../platform/store/submissions';
import type { Temporal } from '../platform/temporal';
import { firstClaimOf, freshOutcome, mayClaim } from './claim-at-insert';
import type { FreshSubmissions } from './fresh-submissions';
import type { GroupQueues } from './group-queues';
import type { Quotas } from './quotas';
import type { Accepted, AcceptRequest } from './accept-request';
import { createOwnerLimit, type EndReservation } from './owner-limit';
import { split, splitTogether, type SplitSubmission } from './split';
import { createStartedNotes } from './started-notes';
import { createSharing, MAX_SHARED_TASKS, type Shareable } from './sharing';

/**
 * Accept, for every wire: stores the bodies and starts the workflow, then responds. A stored submission is accepted: if Temporal
 * does not take the start, the caller still gets its IDs, and the sweep of `workers` starts the workflow.
 */

export type Accept = (request: AcceptRequest) => Promise<Accepted>;

export interface AcceptDeps {
  config: Config;
  log: Logger;
  db: Database;
  temporal: Temporal;
  groupQueues: GroupQueues;
  quotas: Quotas;
  /** Set in a process that also runs the first step of the workflows that it starts. */
  fresh?: FreshSubmissions;
}

/** Each start costs Temporal 20 to 30 ms of CPU and has a deadline, so the starts of one request must not queue there. */
const MAX_CONCURRENT_STARTS = 16;

interface Pending extends Shareable {
  request: AcceptRequest;
  taskGroupId: string;
}

export function createAccept(deps: AcceptDeps): Accept {
  const limit = createOwnerLimit(deps.config.FUNCX_MAX_OPEN_TASKS, leasesOf(deps.db, 'open_tasks'));
  const notes = createStartedNotes(deps.db, deps.log);
  const share = createSharing<Pending, Accepted>((pending) => commitTogether(pending));

  return async function accept(request) {
    const taskGroupId = request.taskGroupId ?? randomUUID();
    const { idempotency, owner } = request;
    const pending: Pending = { request, taskGroupId, ...sizeOf(request), idempotencyKey: idempotency?.key };
    // A repeat adds no work: it gets its response even at the limit.
    const room = await reserve(owner.id, pending).catch(async (error: unknown) => {
      const repeated = idempotency && (await readAccepted(deps.db, owner.id, idempotency.key));
      if (!repeated) throw error;
      return repeated;
    });
    if (typeof room !== 'function') return sameAnswer(request, room);
    let endGroup: ((isStored: boolean) => void) | undefined;
    let isStored = false;
    try {
      endGroup = await deps.quotas.reserveTaskGroup(owner.id, taskGroupId);
      // Declare the queue first, so that nothing is stored while the broker is unavailable.
      if (request.resultQueue !== 'none') await deps.groupQueues.ensure(owner.id, taskGroupId, request.resultQueue);
      const accepted = await (mayShare(deps.config, pending) ? share(laneOf(pending), pending) : commitAlone(pending));
      isStored = true;
      return accepted;
    } finally {
      endGroup?.(isStored);
      room(isStored);
    }
  };

  /** Reserves room also while the request waits in its lane. Returns the function that ends the reservation. */
  async function reserve(ownerId: string, { tasks, bytes }: Pending): Promise<EndReservation> {
    const endTasks = await limit.reserve(ownerId, tasks);
    try {
      const endBytes = await deps.quotas.reserveBytes(ownerId, bytes);
      return (isStored) => {
        endTasks(isStored);
        endBytes(isStored);
      };
    } catch (error) {
      endTasks(false);
      throw error;
    }
  }

  async function commitAlone({ request, taskGroupId }: Pending): Promise<Accepted> {
    const { submissions, tasks } = split(deps.config, request, taskGroupId);
    const accepted: Accepted = { requestId: randomUUID(), taskGroupId, tasks };
    const [only] = submissions.length === 1 ? submissions : [];
    if (only && deps.fresh && !request.startsItself && !request.idempotency) {
      return commitWhileStarting(deps.fresh, { request, accepted, submission: only });
    }
    const { idempotency, owner } = request;
    const outcome = await insertSubmissions(
      deps.db,
      submissions,
      request.resultQueue,
      idempotency && { ownerId: owner.id, ...idempotency, response: accepted },
      request.unanswered && { ...request.unanswered, response: accepted },
    );
    switch (outcome.kind) {
      case 'group-of-another-owner':
        throw foreignGroup(taskGroupId);
      case 'repeated':
        return sameAnswer(request, outcome);
      case 'inserted':
        break;
    }
    await failPoint('accept-bodies');
    if (request.startsItself) return accepted;
    await startAll(submissions.map((submission) => startOf(request, submission)));
    return accepted;
  }

  /** Inserts and starts at the same time: the first step of the workflow waits for the insert. */
  async function commitWhileStarting(
    fresh: FreshSubmissions,
    { request, accepted, submission }: { request: AcceptRequest; accepted: Accepted; submission: SplitSubmission },
  ): Promise<Accepted> {
    const inserted = insertSubmissions(
      deps.db,
      [submission],
      request.resultQueue,
      undefined,
      request.unanswered && { ...request.unanswered, response: accepted },
      fresh.mayClaim() && mayClaim(deps.config, request) ? firstClaimOf(submission.id) : undefined,
    );
    fresh.add(submission.id, freshOutcome(deps.db, submission, inserted));
    const started = start(deps, startOf(request, submission));
    const outcome = await inserted;
    if (outcome.kind !== 'inserted') throw foreignGroup(submission.taskGroupId);
    await failPoint('accept-bodies');
    const isStarted = await started;
    await failPoint('accept-start');
    if (isStarted) notes.add([submission]);
    await failPoint('accept-answer');
    return accepted;
  }

  /** Accepts requests of one lane with one statement and one workflow. Returns the outcome of each request, in order. */
  async function commitTogether(pending: readonly Pending[]): Promise<(() => Accepted)[]> {
    const [only, another] = pending;
    if (!only) return [];
    if (!another) return [await outcomeOf(commitAlone(only))];
    const { request, taskGroupId } = only;
    const shared = splitTogether(deps.config, pending);
    const insert = insertShared(
      deps.db,
      shared.map(({ submission, accepted, request: { owner, idempotency, unanswered } }) => ({
        submission,
        remembered: idempotency && { ownerId: owner.id, ...idempotency, response: accepted },
        unanswered: unanswered && { ...unanswered, response: accepted },
      })),
      request.resultQueue,
    );
    const inserted = await insert.catch((error: unknown) => {
      // The store refuses the data of one request, which must not fail the others: accept each request alone.
      if (isAboutData(error)) return undefined;
      throw error;
    });
    if (inserted === undefined) return Promise.all(pending.map((one) => outcomeOf(commitAlone(one))));
    if (inserted === 'group-of-another-owner') throw foreignGroup(taskGroupId);
    const accepted = pending.filter((_, index) => inserted.has(shared[index]?.submission.id ?? ''));
    const tasks = accepted.reduce((sum, one) => sum + one.tasks, 0);
    await failPoint('accept-bodies');
    const [first, last] = [shared[0]?.submission, shared.at(-1)?.submission];
    if (first && last && inserted.size > 0) {
      await startAll([{ ...startOf(request, first), lastId: last.id, total: tasks }]);
    }
    return Promise.all(
      shared.map(async ({ submission, accepted, request: own }) =>
        inserted.has(submission.id) ? (): Accepted => accepted : outcomeOf(answerAgain(own)),
      ),
    );
  }

  async function answerAgain(request: AcceptRequest): Promise<Accepted> {
    const { idempotency, owner } = request;
    const earlier = idempotency && (await readAccepted(deps.db, owner.id, idempotency.key));
    if (!earlier) throw new Error('an accepted request vanished while it was repeated');
    return sameAnswer(request, earlier);
  }

  async function startAll(starts: readonly SubmissionStart[]): Promise<void> {
    for (const { id } of starts) deps.fresh?.add(id, Promise.resolve({ kind: 'stored', claimed: [] }));
    const started: SubmissionStart[] = [];
    await concurrently(MAX_CONCURRENT_STARTS, starts, async (one) => {
      if (await start(deps, one)) started.push(one);
    });
    await failPoint('accept-start');
    notes.add(started);
    await failPoint('accept-answer');
  }
}

function outcomeOf<T>(work: Promise<T>): Promise<() => T> {
  return work.then(
    (value) => () => value,
    (error: unknown) => () => {
      throw error;
    },
  );
}

function sizeOf({ calls }: AcceptRequest): { tasks: number; bytes: number } {
  let [tasks, bytes] = [0, 0];
  for (const { payloads } of calls) {
    tasks += payloads.length;
    for (const payload of payloads) bytes += Buffer.byteLength(typeof payload === 'string' ? payload : payload.text);
  }
  return { tasks, bytes };
}

/** False for a request that is accepted alone. */
function mayShare(config: Config, { request, tasks }: Pending): boolean {
  return (
    request.taskGroupId !== undefined &&
    !request.startsItself &&
    tasks > 0 &&
    tasks <= Math.min(MAX_SHARED_TASKS, config.FUNCX_MAX_TASKS_PER_SUBMISSION) &&
    request.calls.every(({ target, payloads }) => !target && payloads.every((payload) => typeof payload === 'string'))
  );
}

/** Requests of one lane have the same options, so that one workflow does the same for all of them. */
function laneOf({ request, taskGroupId }: Pending): string {
  const { owner, endpoint, endpointQueueId, resultQueue, policy, resourceSpecification, resultSerializers } = request;
  const ids = [owner.id, endpoint.id, endpointQueueId, taskGroupId];
  return JSON.stringify([ids, resultQueue, policy, resourceSpecification, resultSerializers]);
}

function foreignGroup(taskGroupId: string): TerminalError {
  return new TerminalError('FORBIDDEN', `Task group ${taskGroupId} belongs to another identity. Use a group ID of your own.`, {
    subject: { kind: 'task group', ids: [taskGroupId] },
  });
}

/** SQLSTATE classes 22 (data exception) and 23 (constraint). */
function isAboutData(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^2[23]/.test(error.code);
}

function sameAnswer({ idempotency }: AcceptRequest, earlier: { bodyHash: Buffer; response: unknown }): Accepted {
  if (!idempotency || !earlier.bodyHash.equals(idempotency.bodyHash)) {
    throw usedKey();
  }
  return earlier.response as Accepted; // written by this file
}

export const usedKey = (): TerminalError =>
  new TerminalError('CONFLICT', 'This Idempotency-Key was used for another request. Use a new key for new work.');

function startOf(request: AcceptRequest, submission: SplitSubmission): SubmissionStart {
  return {
    ...submission,
    ownerName: request.owner.name,
    endpointName: submission.target.endpoint.name,
    total: submission.tasks.length,
  };
}

/** True if the workflow was started, now or by an earlier call. Otherwise the sweep starts it. */
async function start(deps: AcceptDeps, submission: SubmissionStart): Promise<boolean> {
  try {
    const { wasEager } = await deps.temporal.startSubmission(submission);
    // The first step most likely runs in another process, so drop the bodies that this process keeps for it.
    if (!wasEager) void deps.fresh?.take(submission.id);
    workflowStarts.inc({ eager: String(wasEager) });
    return true;
  } catch (error) {
    deps.log.warn({ err: error, submissionId: submission.id }, 'the workflow of a submission did not start; the sweep starts it');
    return false;
  }
}
