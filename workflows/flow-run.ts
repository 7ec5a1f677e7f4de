import { ApplicationFailure } from '@temporalio/common';
import { CancellationScope, continueAsNew, defineQuery, setHandler } from '@temporalio/workflow';

import { FLOW_QUERY, type FlowRunInput, type FlowRunSummary } from '../contracts/flows';
import type { FlowLineInput, ShownState } from '../contracts/flow-steps';
import { isCancelled, LineRun, steps } from './flow-line';

/** The workflows of a flow run, and of one line of its `Map` or `Parallel` states. */

export const stepsQuery = defineQuery<readonly ShownState[]>(FLOW_QUERY.steps);

type Carried = NonNullable<FlowLineInput['carried']>;

/** Fails when the run fails, and ends as cancelled when the run is cancelled. The store has the outcome before it ends. */
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
    if (isCancelled(error)) await CancellationScope.nonCancellable(() => steps.endCancelled({ runId, generation }));
    throw error;
  }
}

/** Returns whether the line succeeded. The store has its outcome. */
export async function flowLine(input: FlowLineInput): Promise<boolean> {
  const run = new LineRun(input, (carried) => continueAsNew<typeof flowLine>({ ...input, carried }));
  setHandler(stepsQuery, () => run.shown);
  return (await run.run()).kind === 'succeeded';
}
