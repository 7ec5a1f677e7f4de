import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import {
  isCancellation,
  ParentClosePolicy,
  proxyActivities,
  startChild,
  workflowInfo,
  WorkflowIdReusePolicy,
} from '@temporalio/workflow';

import { FLOW_WORKFLOW, flowAttributesOf, flowWorkflowId, type FlowRunInput } from '../contracts/flows';
import type { ScheduleActivities, ScheduleInput } from '../contracts/schedules';
import { limitSummary } from '../contracts/temporal-limits';

/** One occurrence of a schedule. The run is its child workflow, so that the overlap policy covers the duration of the run. */

const { beginScheduledRun } = proxyActivities<ScheduleActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute' },
});

export async function flowSchedule({ scheduleId }: ScheduleInput): Promise<{ runId: string | null }> {
  // The workflow id contains the time of the occurrence, so a retried activity creates the same run.
  const begun = await beginScheduledRun({ scheduleId, occurrence: workflowInfo().workflowId });
  if (!begun) return { runId: null };
  const { hasSearchAttributes, ...input } = begun;
  const { runId, title } = input;
  const run = await startChild(FLOW_WORKFLOW.run, {
    workflowId: flowWorkflowId(runId),
    workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
    parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
    args: [input],
    staticSummary: limitSummary(title),
    memo: { generation: 0 },
    ...(hasSearchAttributes ? { typedSearchAttributes: typedAttributesOf(input) } : {}),
  });
  try {
    await run.result();
  } catch (error) {
    if (isCancellation(error)) throw error;
    // The outcome of the run is in its own record.
  }
  return { runId };
}

function typedAttributesOf(input: FlowRunInput): TypedSearchAttributes {
  return new TypedSearchAttributes(
    flowAttributesOf(input).map(({ name, value }) => ({ key: defineSearchAttributeKey(name, 'KEYWORD'), value })),
  );
}
