import { ApplicationFailure } from '@temporalio/common';
import {
  CancellationScope,
  condition,
  getExternalWorkflowHandle,
  isCancellation,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';

import type { AcceptedCall, CallActivities, CallState } from '../contracts/activities';
import {
  CALL_FAILURE,
  PROGRESS_SIGNAL,
  type CallFailure,
  type CallInput,
  type CallOrigin,
  type CallProgress,
  type FailurePolicy,
  type MapFailure,
  type MapInput,
  type MapResult,
} from '../contracts/calls';
import { callLabelOf } from '../contracts/submission';
import { callLine } from '../contracts/call-details';
import { runSubmissions } from './child-submissions';
import { proxySteps } from './local-activities';

/** A call of a pipeline: one workflow whose children are the submissions. Pipelines in any language can wait for it. */

const retry = { initialInterval: '200 milliseconds', backoffCoefficient: 2, maximumInterval: '10 seconds' } as const;
const { acceptCall, noteStarted, observeCall, readResults } = proxySteps<CallActivities>({
  startToCloseTimeout: '2 minutes',
  retry,
});

/** A call first polls the state of its tasks at this age, and again each time its age has grown by a tenth. */
const FIRST_POLL_MS = 1_000;
const MIN_POLL_MS = 2_000;
const POLL_SHARE_OF_AGE = 0.1;
const MAX_POLL_MS = 600_000;
/** Maximum number of signals to the pipeline, because each signal adds an event to its history. */
const MAX_SIGNALS = 20;
const SHOWN_FAILURES = 5;

/** Runs one call. Returns its value, or a reference to the value. Fails with one of {@link CALL_FAILURE}. */
export async function funcxCall(input: CallInput, origin?: CallOrigin): Promise<unknown> {
  const { values } = await new CallRun({ kind: 'call', call: input }, origin).run();
  return values[0];
}

/** Runs one call for each list of arguments, in as few submissions as possible. */
export async function funcxMap(input: MapInput, origin?: CallOrigin): Promise<MapResult> {
  return new CallRun({ kind: 'map', call: input }, origin).run();
}

type Given = { kind: 'call'; call: CallInput } | { kind: 'map'; call: MapInput };
type GivenUp = 'too many failures' | 'offline';

class CallRun {
  readonly #startedMs = Date.now();
  #state: CallState | undefined;
  #signals = 0;
  #told = '';

  constructor(
    private readonly given: Given,
    private readonly origin: CallOrigin = {},
  ) {}

  async run(): Promise<MapResult> {
    const { workflowId, runId, parent } = workflowInfo();
    const pipeline = parent ?? this.origin.pipeline;
    const accepted = await acceptCall({
      ...this.given,
      requestKey: `call/${workflowId}/${runId}`.slice(-200),
      ...(pipeline
        ? { pipeline: { namespace: pipeline.namespace, workflowId: pipeline.workflowId, runId: pipeline.runId } }
        : {}),
    });
    this.#show(accepted);
    const scope = new CancellationScope();
    let isDone = false;
    const submissions = scope.run(() => runSubmissions(accepted, { noteStarted, observeCall })).then(() => (isDone = true));
    const watching = this.#watch(accepted, () => isDone);
    try {
      const givenUp = await Promise.race([submissions.then(() => undefined), watching]);
      if (givenUp) {
        scope.cancel();
        await submissions.catch((error: unknown) => {
          if (!isCancellation(error)) throw error;
        });
      }
      return await this.#settle(accepted, givenUp);
    } catch (error) {
      // If the call was cancelled, it ends after its tasks have ended.
      if (isCancellation(error)) await submissions.catch(() => undefined);
      throw error;
    }
  }

  /** Polls the state of the tasks at growing intervals. Returns when the open tasks must be cancelled; never if all tasks end. */
  async #watch(accepted: AcceptedCall, isDone: () => boolean): Promise<GivenUp> {
    const ids = accepted.submissions.map(({ input }) => input.submissionId);
    for (;;) {
      const ageMs = Date.now() - this.#startedMs;
      const pollMs = ageMs < FIRST_POLL_MS ? FIRST_POLL_MS : Math.max(MIN_POLL_MS, ageMs * POLL_SHARE_OF_AGE);
      await condition(isDone, Math.max(1, Math.min(pollMs, MAX_POLL_MS, this.#msUntilOffline(accepted))));
      if (isDone()) return new Promise<never>(() => undefined);
      this.#state = await observeCall(ids);
      this.#show(accepted);
      await this.#tell(accepted);
      if (failedOf(this.#state) > tolerated(accepted.failure, accepted.total)) return 'too many failures';
      if (this.#msUntilOffline(accepted) <= 0) return 'offline';
    }
  }

  #msUntilOffline({ offline }: AcceptedCall): number {
    if (offline === 'wait') return Infinity;
    const state = this.#state;
    if (state && (state.endpointOnline || inHandOf(state) > 0)) return Infinity;
    const since = Math.max(state?.endpointSinceMs ?? 0, this.#startedMs);
    const ms = since + offline.fail_after_s * 1_000 - Date.now();
    return state ? ms : Math.max(ms, 1);
  }

  async #settle(accepted: AcceptedCall, givenUp: GivenUp | undefined): Promise<MapResult> {
    if (givenUp === 'offline' && accepted.offline !== 'wait') {
      throw ApplicationFailure.create({
        type: CALL_FAILURE.offline,
        nonRetryable: true,
        message: `endpoint ${accepted.endpointName} was offline for more than ${accepted.offline.fail_after_s} s while ${accepted.functionName} waited for it`,
        details: [{ endpoint: accepted.endpointName, sinceMs: this.#state?.endpointSinceMs ?? this.#startedMs }],
      });
    }
    const { values, failures, failed } = await readResults({
      submissionIds: accepted.submissions.map(({ input }) => input.submissionId),
    });
    if (failed > tolerated(accepted.failure, accepted.total)) {
      // Tasks that were cancelled because of the failure are not its reason.
      const reasons = failures.filter(({ code }) => code !== 'Cancelled');
      const [first = failures[0]] = reasons;
      if (accepted.failure === 'fail_fast' && first) throw taskFailure(accepted, first);
      throw mapFailure(accepted, { total: accepted.total, failed, failures: reasons.slice(0, SHOWN_FAILURES) });
    }
    return { values, failures };
  }

  #show(accepted: AcceptedCall): void {
    setCurrentDetails(callLine(this.#progress(accepted)));
  }

  #progress(accepted: AcceptedCall): CallProgress {
    const state = this.#state;
    return {
      callId: workflowInfo().workflowId,
      label: callLabelOf(accepted),
      endpoint: accepted.endpointName,
      endpointOnline: state?.endpointOnline ?? true,
      endpointSinceMs: state?.endpointSinceMs ?? 0,
      counts: state?.counts ?? { waiting: accepted.total },
      total: accepted.total,
      links: accepted.submissions.map(({ url }) => url),
    };
  }

  /** Signals the pipeline when the state changed, or when another tenth of the calls ended since the last signal. */
  async #tell(accepted: AcceptedCall): Promise<void> {
    const { parent } = workflowInfo();
    const state = this.#state;
    if (!accepted.progress || !parent || !state || this.#signals >= MAX_SIGNALS) return;
    const { succeeded = 0, running = 0 } = state.counts;
    const tenths = Math.floor(((succeeded + failedOf(state)) * 10) / accepted.total);
    const told = [tenths, failedOf(state) > 0, inHandOf(state) > 0, running > 0, state.endpointOnline].join();
    if (told === this.#told) return;
    this.#told = told;
    this.#signals++;
    try {
      await getExternalWorkflowHandle(parent.workflowId).signal(PROGRESS_SIGNAL, this.#progress(accepted));
    } catch (error) {
      if (isCancellation(error)) throw error;
      // The pipeline has closed and needs no signal.
    }
  }
}

const failedOf = ({ counts: { failed = 0, cancelled = 0, expired = 0 } }: CallState): number => failed + cancelled + expired;
const inHandOf = ({ counts: { dispatched = 0, running = 0 } }: CallState): number => dispatched + running;

function tolerated(policy: FailurePolicy, total: number): number {
  if (policy === 'collect_all') return total;
  return policy === 'fail_fast' ? 0 : Math.floor((total * policy.tolerate_percent) / 100);
}

function taskFailure(accepted: AcceptedCall, failure: CallFailure): ApplicationFailure {
  const what = failure.exception ?? failure.code;
  return ApplicationFailure.create({
    type: CALL_FAILURE.task,
    nonRetryable: true,
    message:
      `${accepted.functionName} on ${accepted.endpointName} failed with ${what} ` +
      `(call ${workflowInfo().workflowId}, task ${failure.taskId}): ${failure.traceback}`,
    details: [failure],
  });
}

function mapFailure(accepted: AcceptedCall, detail: MapFailure): ApplicationFailure {
  const [first] = detail.failures;
  return ApplicationFailure.create({
    type: CALL_FAILURE.map,
    nonRetryable: true,
    message:
      `${detail.failed} of ${detail.total} calls of ${accepted.functionName} on ${accepted.endpointName} failed, more than ` +
      `tolerated (call ${workflowInfo().workflowId}); the first, task ${first?.taskId ?? 'unknown'} with index ${first?.index ?? 0}: ` +
      (first?.traceback ?? 'unknown'),
    details: [detail],
  });
}
