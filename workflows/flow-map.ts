import {
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  ParentClosePolicy,
  setCurrentDetails,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';

import { ensureError } from '../contracts/errors';
import { FLOW_WORKFLOW, flowWorkflowId } from '../contracts/flows';
import type { FlowLineInput, FlowMapInput } from '../contracts/flow-steps';
import { limitSummary } from '../contracts/temporal-limits';
import { steps } from './flow-line';

/**
 * Runs the lines of a `Map` or `Parallel` state, at most `concurrency` at a time, until all have ended or too many have failed. A
 * line that only computes ends when it is opened. Any other line gets a child workflow.
 */

/** Below the limit of 500, because each child adds about six events and the running children still end after this. */
const MAX_HISTORY_EVENTS = 240;
const OPENED_TOGETHER = 20;

export async function flowMap(input: FlowMapInput): Promise<void> {
  const { runId, generation, title, prefix, state, count, concurrency, tolerated } = input;
  let next = input.carried?.next ?? 0;
  let failed = input.carried?.failed ?? 0;
  let inHand = 0;
  let failure: Error | undefined;
  // Temporal updates `historyLength` once per workflow task. Each `openLines` since then has added an event.
  let counted = { historyLength: 0, opened: 0 };
  const isFull = (): boolean => {
    const { historyLength, continueAsNewSuggested } = workflowInfo();
    if (historyLength !== counted.historyLength) counted = { historyLength, opened: 0 };
    return continueAsNewSuggested || historyLength + counted.opened > MAX_HISTORY_EVENTS;
  };
  const isGivenUp = (): boolean => failed > tolerated || failure !== undefined;
  const scope = new CancellationScope();

  const runOne = async (index: number): Promise<void> => {
    const line = `${prefix}${index}`;
    const child = await startChild<(input: FlowLineInput) => Promise<boolean>>(FLOW_WORKFLOW.line, {
      workflowId: `${flowWorkflowId(runId)}/${line}`,
      args: [{ version: 1, runId, line, generation, title: `${title}: ${state}[${index}]` } satisfies FlowLineInput],
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      staticSummary: limitSummary(`${title}: ${state}[${index}]`),
    });
    if (!(await child.result())) failed++;
  };
  const launch = (index: number): void => {
    inHand++;
    scope
      .run(() => runOne(index))
      .catch((error: unknown) => {
        // A line that was cancelled because others failed is not another failure.
        if (!(isGivenUp() && isCancellation(error))) failure ??= ensureError(error);
      })
      .finally(() => {
        inHand--;
        show();
      });
  };
  const show = (): void => {
    setCurrentDetails(`**${state}**: ${next - inHand} of ${count} ended, ${failed} failed, ${inHand} in hand`);
  };

  while (next < count && !isFull() && !isGivenUp()) {
    const first = next;
    next += Math.min(concurrency - inHand, OPENED_TOGETHER, count - next);
    const lines = Array.from({ length: next - first }, (_, at) => `${prefix}${first + at}`);
    const ends = await steps.openLines({ runId, lines, generation });
    counted.opened++;
    ends.forEach((end, at) => {
      if (end === 'failed') failed++;
      else if (end === 'running') launch(first + at);
    });
    show();
    await condition(() => inHand < concurrency || isGivenUp());
  }
  if (isGivenUp()) scope.cancel();
  await CancellationScope.nonCancellable(() => condition(() => inHand === 0 || isGivenUp()));
  if (isGivenUp()) {
    scope.cancel();
    await CancellationScope.nonCancellable(() => condition(() => inHand === 0));
  }
  if (failure !== undefined) throw failure;
  if (next < count && !isGivenUp()) await continueAsNew<typeof flowMap>({ ...input, carried: { next, failed } });
}
