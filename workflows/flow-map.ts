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

/** The lines of a `Map` or `Parallel` state: each a child workflow, so many at a time, until all ended or too many failed. */

/** Each line costs about six events, and those in hand still end after this. */
const MAX_HISTORY_EVENTS = 240;

export async function flowMap(input: FlowMapInput): Promise<void> {
  const { runId, generation, title, prefix, state, count, concurrency, tolerated } = input;
  let next = input.carried?.next ?? 0;
  let failed = input.carried?.failed ?? 0;
  let inHand = 0;
  let failure: Error | undefined;
  const isFull = (): boolean => workflowInfo().historyLength > MAX_HISTORY_EVENTS || workflowInfo().continueAsNewSuggested;
  const isGivenUp = (): boolean => failed > tolerated || failure !== undefined;
  const scope = new CancellationScope();

  const runOne = async (index: number): Promise<void> => {
    const line = `${prefix}${index}`;
    const child = await startChild<(input: FlowLineInput) => Promise<boolean>>(FLOW_WORKFLOW.line, {
      workflowId: `${flowWorkflowId(runId)}/${line}`,
      args: [{ version: 1, runId, line, generation, title: `${title}: ${state}[${index}]` } satisfies FlowLineInput],
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      staticSummary: `${title}: ${state}[${index}]`.slice(0, 200),
      workflowTaskTimeout: '5 seconds',
    });
    if (!(await child.result())) failed++;
  };
  const launch = (index: number): void => {
    inHand++;
    scope
      .run(() => runOne(index))
      .catch((error: unknown) => {
        // A line that was given up because of others says nothing new.
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
    while (next < count && inHand < concurrency && !isFull()) launch(next++);
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
