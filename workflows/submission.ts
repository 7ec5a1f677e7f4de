import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import {
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';

import type { SubmissionActivities, SubmissionRef } from '../contracts/activities';
import { COUNT_ATTRIBUTE, QUERY, SEARCH_ATTRIBUTE, SIGNAL } from '../contracts/names';
import type { SubmissionState, TaskState } from '../contracts/states';
import {
  openStateOf,
  type EndReason,
  type SubmissionInput,
  type SubmissionProgress,
  type SubmissionSummary,
} from '../contracts/submission';
import { limitSummary } from '../contracts/temporal-limits';
import { Alarm } from './alarm';
import { describeSubmission } from './details';
import { proxySteps } from './local-activities';
import { showTime } from './shown-time';

// While an engine is unavailable, the server retries a step for days without adding events to the history.
const patience = {
  summary: 'an engine is away; repeated until it answers',
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '10 seconds' },
} as const;
// If the process that runs a step is killed, the step is retried after this timeout.
const { releaseDueTasks, observe, finish } = proxySteps<SubmissionActivities>({ ...patience, startToCloseTimeout: '20 seconds' });
/** Waits for the confirm of the message broker. */
const { dispatch } = proxySteps<SubmissionActivities>({
  ...patience,
  startToCloseTimeout: '2 minutes',
  heartbeatTimeout: '5 seconds',
});
// May end thousands of tasks.
const { endOpenTasks, endOverdueTasks } = proxyActivities<SubmissionActivities>({
  summary: 'end the tasks that are cancelled, past their deadline or past their walltime',
  startToCloseTimeout: '5 minutes',
  retry: { initialInterval: '200 milliseconds', backoffCoefficient: 2, maximumInterval: '10 seconds' },
});

const FIRST_POLL_MS = 60_000;
/** While the endpoint is offline, little about the submission changes. */
const FIRST_POLL_OFFLINE_MS = 600_000;
const LONGEST_POLL_MS = 3_600_000;
/**
 * A nudge adds five events. Another worker must replay a run within the workflow task timeout. An event takes 1 ms, or 10 ms on a
 * busy machine.
 */
const MAX_HISTORY_EVENTS = 150;
/** Added to the walltime before the service ends an attempt that its agent did not stop. Exceeds the store's grace of 15 s. */
const WALLTIME_POLL_MS = 16_000;
const STATE_ATTRIBUTE = defineSearchAttributeKey(SEARCH_ATTRIBUTE.state, 'KEYWORD');
const FAILED_ATTRIBUTE = defineSearchAttributeKey(COUNT_ATTRIBUTE.failed, 'INT');
const CANCELLED_ATTRIBUTE = defineSearchAttributeKey(COUNT_ATTRIBUTE.cancelled, 'INT');

export const nudgeSignal = defineSignal(SIGNAL.nudge);
export const tasksQuery = defineQuery<Partial<Record<TaskState, number>>>(QUERY.tasks);
export const failuresQuery = defineQuery<SubmissionProgress['failures']>(QUERY.failures);

/** The durable workflow of a submission: dispatch, wait, retry, expire or cancel, finish. */
export async function submission(input: SubmissionInput): Promise<SubmissionSummary> {
  return new SubmissionRun(input).run();
}

/**
 * A submission sleeps until a nudge, a timer or a cancellation. Then it reads the store and decides. The store counts the
 * open tasks, so a lost nudge only delays the submission.
 */
class SubmissionRun {
  readonly #ref: SubmissionRef;
  #progress: SubmissionProgress;
  #isNudged = false;
  #dispatches: number;
  #pollMs = FIRST_POLL_MS;
  /** The search attributes, which continue-as-new keeps; undefined where the server or an earlier release did not set one. */
  readonly #attributes: { state: string | undefined; failed: number | undefined; cancelled: number | undefined };
  readonly #look = new Alarm(() => (this.#isNudged = true));
  readonly #deadline = new Alarm(() => (this.#isNudged = true));
  readonly #retry = new Alarm(() => (this.#isNudged = true));
  readonly #walltime = new Alarm(() => (this.#isNudged = true));

  constructor(private readonly input: SubmissionInput) {
    const { submissionId, lastSubmissionId, taskQueueId, endpointId, endpointName } = input;
    const shared = lastSubmissionId === undefined ? {} : { lastSubmissionId };
    this.#ref = { submissionId, ...shared, taskQueueId, endpointId, endpointName };
    const attributes = workflowInfo().typedSearchAttributes;
    this.#attributes = {
      state: attributes.get(STATE_ATTRIBUTE),
      failed: attributes.get(FAILED_ATTRIBUTE),
      cancelled: attributes.get(CANCELLED_ATTRIBUTE),
    };
    this.#dispatches = input.carried?.dispatches ?? 0;
    this.#progress = {
      open: input.total,
      counts: { waiting: input.total },
      endpointOnline: false,
      endpointSinceMs: 0,
      failures: [],
    };
    setHandler(nudgeSignal, () => {
      this.#isNudged = true;
    });
    setHandler(tasksQuery, () => this.#progress.counts);
    setHandler(failuresQuery, () => this.#progress.failures);
  }

  async run(): Promise<SubmissionSummary> {
    try {
      if (this.input.carried) this.#resume();
      else await this.#dispatch();
      while (this.#progress.open > 0) {
        await this.#sleep();
        await this.#startAnewWhenLong();
        await this.#observe();
        if (this.#progress.open === 0) break;
        if (Date.now() >= this.input.deadlineMs) return await this.#end('expired', this.#expiry());
        await this.#decide();
      }
      return await this.#finish('done');
    } catch (error) {
      if (!isCancellation(error)) throw error;
      const summary = await CancellationScope.nonCancellable(() =>
        this.#end('cancelled', { state: 'cancelled', code: 'Cancelled', text: 'The submission was cancelled.' }),
      );
      // Every task had its answer before the cancellation.
      if (summary.state === 'done') return summary;
      throw error; // the Temporal UI shows the run as cancelled
    }
  }

  /** The run after continue-as-new reads the store first and sets its timers from there. */
  #resume(): void {
    this.#isNudged = true;
    this.#setDeadline();
  }

  /** People see the deadline as a timer. */
  #setDeadline(): void {
    this.#deadline.set(this.input.deadlineMs, `deadline ${showTime(this.input.deadlineMs, Date.now())}`);
  }

  async #dispatch(): Promise<void> {
    const claimId = `${this.input.submissionId}/${this.#dispatches++}`;
    const openBefore = this.#progress.counts.waiting ?? this.input.total;
    const outcome = await dispatch({ ...this.#ref, claimId, openBefore });
    const { waiting, endpointOnline, endpointSinceMs, queue } = outcome;
    // The sweep started this workflow late, after a pump had dispatched its tasks.
    if (outcome.isStartedElsewhere) this.#isNudged = true;
    const dispatched = this.input.total - waiting;
    this.#show({
      ...this.#progress,
      endpointOnline,
      endpointSinceMs,
      queue,
      counts: { ...(waiting > 0 ? { waiting } : {}), ...(dispatched > 0 ? { dispatched } : {}) },
    });
    this.#pollMs = endpointOnline ? FIRST_POLL_MS : FIRST_POLL_OFFLINE_MS;
    if (dispatched > 0) this.#watchWalltime();
    // Waiting tasks may wait for days: people see the deadline as a timer.
    if (waiting > 0) this.#setDeadline();
  }

  /** An attempt that is not known to run yet is checked again after a whole walltime. */
  #watchWalltime(): void {
    const { walltimeMs } = this.input;
    if (walltimeMs === undefined) return;
    const at = this.#progress.nextOverdueMs ?? Date.now() + walltimeMs + WALLTIME_POLL_MS;
    if (this.#progress.nextOverdueMs !== undefined || !this.#walltime.isSet) {
      this.#walltime.set(at, `end of the walltime of ${walltimeMs / 1000} s, ${showTime(at, Date.now())}`);
    }
  }

  /** Sleeps until a nudge or a timer. */
  async #sleep(): Promise<void> {
    const look = Date.now() + this.#pollMs;
    if (this.input.deadlineMs <= look) this.#setDeadline();
    // A running timer is kept: an early poll costs less than two events for each nudge.
    else if (!this.#look.isSet) this.#look.set(look, `next poll of the tasks, ${showTime(look, Date.now())}`);
    await condition(() => this.#isNudged);
    if (this.input.deadlineMs > look && !this.#look.isSet) {
      this.#pollMs = Math.min(this.#pollMs * 2, LONGEST_POLL_MS);
      // The submission is still open after a poll: from now on, people see the deadline as a timer.
      this.#setDeadline();
    }
  }

  async #observe(): Promise<void> {
    this.#isNudged = false;
    const { walltimeMs } = this.input;
    this.#show(await observe({ ...this.#ref, walltimeMs }));
  }

  /** Releases delayed tasks and ends overdue attempts. */
  async #decide(): Promise<void> {
    const { nextDueMs, nextOverdueMs } = this.#progress;
    if (nextDueMs !== undefined) {
      if (nextDueMs <= Date.now()) {
        await releaseDueTasks({ ...this.#ref, nowMs: Date.now() });
        await this.#dispatch();
        await this.#observe();
        // The attempt may have failed already, and this read used up its nudge: decide again.
        this.#isNudged ||= this.#progress.nextDueMs !== undefined;
      } else {
        this.#retry.set(nextDueMs, this.#retrySummary(nextDueMs));
      }
    }
    const { walltimeMs } = this.input;
    if (walltimeMs !== undefined && nextOverdueMs !== undefined && nextOverdueMs <= Date.now()) {
      await endOverdueTasks({ ...this.#ref, walltimeMs });
      await this.#observe();
    }
    const { dispatched = 0, running = 0 } = this.#progress.counts;
    if (dispatched + running > 0) this.#watchWalltime();
  }

  #retrySummary(dueMs: number): string {
    const { nextAttempt } = this.#progress;
    const what = `attempt ${nextAttempt?.number ?? 2}, ${showTime(dueMs, Date.now())}`;
    return limitSummary(nextAttempt?.error ? `${what}, after ${nextAttempt.error}` : what);
  }

  #expiry(): EndReason {
    const when = new Date(this.input.deadlineMs).toISOString();
    return {
      state: 'expired',
      code: 'Expired',
      text: `The deadline of the submission, ${when}, passed before the task had an answer.`,
    };
  }

  async #end(state: 'cancelled' | 'expired', reason: EndReason): Promise<SubmissionSummary> {
    await endOpenTasks({ ...this.#ref, reason });
    await this.#observe();
    return this.#finish(this.#progress.counts[state] ? state : 'done');
  }

  async #finish(state: SubmissionState): Promise<SubmissionSummary> {
    this.#setAttributes(state);
    await finish({ ...this.#ref, state });
    return { state, counts: this.#progress.counts };
  }

  #show(progress: SubmissionProgress): void {
    this.#progress = progress;
    setCurrentDetails(describeSubmission(this.input, progress, Date.now()));
    if (progress.open === 0) return;
    this.#setAttributes(openStateOf(progress));
  }

  /** One event for all changes. Skips attributes that the server refused. */
  #setAttributes(state: SubmissionState): void {
    const current = this.#attributes;
    const { failed = 0, expired = 0, cancelled = 0 } = this.#progress.counts;
    const changed: SearchAttributePair[] = [];
    if (current.state !== undefined && current.state !== state) changed.push({ key: STATE_ATTRIBUTE, value: state });
    if (current.failed !== undefined && current.failed !== failed + expired)
      changed.push({ key: FAILED_ATTRIBUTE, value: failed + expired });
    if (current.cancelled !== undefined && current.cancelled !== cancelled)
      changed.push({ key: CANCELLED_ATTRIBUTE, value: cancelled });
    if (changed.length === 0) return;
    if (current.state !== undefined) current.state = state;
    if (current.failed !== undefined) current.failed = failed + expired;
    if (current.cancelled !== undefined) current.cancelled = cancelled;
    upsertSearchAttributes(changed);
  }

  /**
   * Continue-as-new before reading the store. If a signal arrives meanwhile, the server rejects the command and retries the
   * workflow task, so no nudge is lost.
   */
  async #startAnewWhenLong(): Promise<void> {
    const { historyLength, continueAsNewSuggested } = workflowInfo();
    if (historyLength < MAX_HISTORY_EVENTS && !continueAsNewSuggested) return;
    await continueAsNew<typeof submission>({ ...this.input, carried: { dispatches: this.#dispatches } });
  }
}
