import { ApplicationFailure } from '@temporalio/common';
import { CancellationScope, continueAsNew, defineQuery, setHandler } from '@temporalio/workflow';

import { FLOW_QUERY, type FlowRunInput, type FlowRunSummary } from '../contracts/flows';
import type { FlowLineInput, ShownState } from '../contracts/flow-steps';
import { isCancelled, LineRun, steps } from './flow-line';

/** A run of a flow, and a line of one of its `Map` or `Parallel` states. */

export const stepsQuery = defineQuery<readonly ShownState[]>(FLOW_QUERY.steps);

type Carried = NonNullable<FlowLineInput['carried']>;

/** Fails, or ends as cancelled, when the run does. The outcome of the run is stored before the workflow ends. */
export async function flowRun(input: FlowRunInput, carried?: Carried): Promise<FlowRunSummary> {
  const { runId, generation, title } = input;
  const line: FlowLineInput = { version: 1, runId, line: '', generation, title, carried };
  const run = new LineRun(line, (next) => continueAsNew<typeof flowRun>(input, next));
  setHandler(stepsQuery, () => run.shown);
  try {
    const end = await run.run();
    if (end.kind === 'succeeded') return { status: 'SUCCEEDED', steps: end.entered };
    throw ApplicationFailure.create({ type: end.error, message: end.cause, nonRetryable: true });
  } catch (error) {
    if (isCancelled(error)) await CancellationScope.nonCancellable(() => steps.endCancelled({ runId }));
    throw error;
  }
}

/** True when the line ended well; how it ended is in the store. */
export async function flowLine(input: FlowLineInput): Promise<boolean> {
  const run = new LineRun(input, (carried) => continueAsNew<typeof flowLine>({ ...input, carried }));
  setHandler(stepsQuery, () => run.shown);
  return (await run.run()).kind === 'succeeded';
}
