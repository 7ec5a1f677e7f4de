import { ApplicationFailure } from '@temporalio/common';
import {
  ActivityCancellationType,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  ParentClosePolicy,
  proxyActivities,
  setCurrentDetails,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';

import { FLOW_WORKFLOW, flowWorkflowId } from '../contracts/flows';
import type { FlowActivities, FlowEvent, FlowLineInput, FlowMapInput, FlowStep, ShownState } from '../contracts/flow-steps';
import { limitSummary } from '../contracts/temporal-limits';
import { runSubmissions } from './child-submissions';
import { describeRun, type ShownStep } from './flow-details';
import { proxySteps } from './local-activities';

/**
 * Runs one line of a run: gets a step, does what the step needs from a workflow (a timer, submissions, other lines), and passes
 * the outcome to the next step. Activities compute the states, next to the store.
 */

const retry = { initialInterval: '200 milliseconds', backoffCoefficient: 2, maximumInterval: '10 seconds' } as const;
/** While the store is unavailable for long, the server retries a step without adding events to the history. */
export const steps = proxySteps<FlowActivities>({ startToCloseTimeout: '5 minutes', retry });

// The server retries the activity until the action has ended, without adding events to the history.
const { runHttpAction } = proxyActivities<FlowActivities>({
  startToCloseTimeout: '3 minutes',
  heartbeatTimeout: '10 seconds',
  // Wait for a request that may start an action, so that the action can be cancelled.
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { ...retry, initialInterval: '1 second', maximumInterval: '1 minute' },
});
const { stopHttpAction } = proxyActivities<FlowActivities>({
  startToCloseTimeout: '3 minutes',
  heartbeatTimeout: '10 seconds',
  retry: { ...retry, maximumAttempts: 5 },
});

/** An execution must stay below 500 events. A step adds at most forty events, including a cancellation during the step. */
const MAX_HISTORY_EVENTS = 300;
const MAX_SHOWN = 30;
/** After this many steps without waiting, a loop pauses before each further step. */
const STEPS_WITHOUT_PAUSE = 200;
const PAUSE_MS = 1_000;

export type LineEnd = Extract<FlowStep, { kind: 'succeeded' | 'failed' }>;

export class LineRun {
  #shown: ShownStep[];
  #stepsWithoutPause = 0;
  /** Temporal updates `historyLength` once per workflow task. Each step since then has added at least one event. */
  #counted = { historyLength: 0, steps: 0 };

  constructor(
    private readonly input: FlowLineInput,
    private readonly startAnew: (carried: NonNullable<FlowLineInput['carried']>) => Promise<never>,
  ) {
    this.#shown = input.carried?.shown ?? [];
  }

  get shown(): readonly ShownState[] {
    return this.#shown;
  }

  async run(): Promise<LineEnd> {
    const { runId, line, generation, carried } = this.input;
    let step = carried?.step ?? (await steps.openLine({ runId, line, generation }));
    for (;;) {
      this.#show(step.shown);
      if (step.kind === 'succeeded' || step.kind === 'failed') return step;
      if (this.#isHistoryFull()) {
        return await this.startAnew({ step: { ...step, shown: [] }, shown: this.#shown });
      }
      const event = await this.#do(step);
      step = await steps.advance({ runId, line, position: step.position, event });
    }
  }

  #isHistoryFull(): boolean {
    const { historyLength, continueAsNewSuggested } = workflowInfo();
    if (historyLength !== this.#counted.historyLength) this.#counted = { historyLength, steps: 0 };
    return continueAsNewSuggested || historyLength + ++this.#counted.steps > MAX_HISTORY_EVENTS;
  }

  async #do(step: Exclude<FlowStep, LineEnd>): Promise<FlowEvent> {
    const pauseMs = step.kind === 'wait' ? step.untilMs - Date.now() : 0;
    const isShort = step.kind === 'more' || (step.kind === 'wait' && pauseMs <= 0);
    this.#stepsWithoutPause = isShort ? this.#stepsWithoutPause + 1 : 0;
    if (this.#stepsWithoutPause > STEPS_WITHOUT_PAUSE) await sleep(PAUSE_MS, { summary: 'a loop without a Wait' });
    switch (step.kind) {
      case 'more':
        return { kind: 'go' };
      case 'wait':
        if (pauseMs > 0) await sleep(Math.ceil(pauseMs), { summary: limitSummary(step.summary) });
        return { kind: 'waited' };
      case 'action':
        return this.#act(step);
      case 'http':
        return await this.#actOverHttp(step);
      case 'lines':
        await this.#runLines(step);
        return { kind: 'joined' };
    }
  }

  async #act({ position, state, waitTimeS }: Extract<FlowStep, { kind: 'action' }>): Promise<FlowEvent> {
    const { runId, line } = this.input;
    const accepted = await steps.acceptAction({ runId, line, position });
    if ('refused' in accepted) return { kind: 'refused', cause: accepted.refused };
    const { groups } = accepted;
    this.#link(groups.flatMap(({ submissions }) => submissions.map(({ url }) => url)));
    const running = new CancellationScope();
    const timer = new CancellationScope();
    const ended = running.run(() => Promise.all(groups.map((group) => runSubmissions(group, steps)))).then(() => false);
    const isTimedOut = await Promise.race([
      ended,
      timer
        .run(() => sleep(waitTimeS * 1_000, { summary: limitSummary(`WaitTime of ${state}`) }))
        .then(
          () => true,
          (error: unknown) => {
            // The action ended first, or the run was cancelled; in both cases, the submissions determine the outcome.
            if (isCancellation(error)) return ended;
            throw error;
          },
        ),
    ]);
    timer.cancel();
    if (isTimedOut) {
      running.cancel();
      await ended.catch((error: unknown) => {
        if (!isCancelled(error)) throw error;
      });
    }
    return {
      kind: 'acted',
      groups: groups.map(({ submissions }) => ({ submissionIds: submissions.map(({ input }) => input.submissionId) })),
      taskGroupId: groups[0]?.submissions[0]?.input.taskGroupId ?? '',
      isTimedOut,
    };
  }

  async #actOverHttp({ position, waitTimeS }: Extract<FlowStep, { kind: 'http' }>): Promise<FlowEvent> {
    const { runId, line } = this.input;
    try {
      return await runHttpAction({ runId, line, position, waitTimeS });
    } catch (error) {
      if (!CancellationScope.current().consideredCancelled) throw error;
      await CancellationScope.nonCancellable(() => stopHttpAction({ runId, line, position }));
      // The last poll may have failed for a reason other than the cancellation.
      throw isCancellation(error) ? error : new CancelledFailure('the run was cancelled while an action ran');
    }
  }

  async #runLines({ prefix, state, count, concurrency, tolerated }: Extract<FlowStep, { kind: 'lines' }>): Promise<void> {
    const { runId, generation, title } = this.input;
    const input: FlowMapInput = { version: 1, runId, generation, title, prefix, state, count, concurrency, tolerated };
    const child = await startChild<(input: FlowMapInput) => Promise<void>>(FLOW_WORKFLOW.map, {
      workflowId: `${flowWorkflowId(runId)}/${prefix}`,
      args: [input],
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      staticSummary: limitSummary(`${title}: ${state} x${count}`),
    });
    await child.result();
  }

  #show(states: readonly ShownState[]): void {
    for (const state of states) {
      const last = this.#shown.at(-1);
      if (last && last.state === 'running' && last.name === state.name)
        Object.assign(last, { state: state.state, endedMs: state.sinceMs });
      else this.#shown.push({ ...state });
    }
    this.#shown = this.#shown.slice(-MAX_SHOWN);
    setCurrentDetails(describeRun(this.input.title, this.#shown));
  }

  #link(links: readonly string[]): void {
    const last = this.#shown.at(-1);
    if (last) last.links = links.slice(0, 3);
    setCurrentDetails(describeRun(this.input.title, this.#shown));
  }
}

/** Whether the error is a cancellation, including that of a child submission. */
export function isCancelled(error: unknown): boolean {
  return isCancellation(error) || (error instanceof ApplicationFailure && error.type === 'Cancelled');
}
