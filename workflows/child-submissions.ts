import {
  defineSearchAttributeKey,
  TypedSearchAttributes,
  WorkflowExecutionAlreadyStartedError,
  WorkflowIdReusePolicy,
} from '@temporalio/common';
import {
  CancellationScope,
  getExternalWorkflowHandle,
  isCancellation,
  ParentClosePolicy,
  sleep,
  startChild,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';

import type { AcceptedSubmissions, CallActivities } from '../contracts/activities';
import { SEARCH_ATTRIBUTE, WORKFLOW } from '../contracts/names';
import { submissionAttributesOf } from '../contracts/submission';
import type { submission } from './submission';

/** Runs submissions as children of the calling workflow, so that cancelling a pipeline or a run cancels its calls. */

type Submission = AcceptedSubmissions['submissions'][number];

/** Returns when all submissions have ended. If the caller's scope is cancelled, the submissions are cancelled. */
export async function runSubmissions(
  accepted: AcceptedSubmissions,
  { noteStarted, observeCall }: Pick<CallActivities, 'noteStarted' | 'observeCall'>,
): Promise<void> {
  const children = await Promise.all(accepted.submissions.map((one) => start(accepted, one)));
  await noteStarted(accepted.submissions.map(({ input }) => input.submissionId));
  const ends = await Promise.allSettled(
    // the index is within the list
    children.map((child, index) => (child ? child.result() : follow(accepted.submissions[index]!, observeCall))),
  );
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
}

async function start(
  accepted: AcceptedSubmissions,
  { input, workflowId, summary }: Submission,
): Promise<ChildWorkflowHandle<typeof submission> | undefined> {
  try {
    return await startChild<typeof submission>(WORKFLOW.submission, {
      workflowId,
      workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      taskQueue: accepted.submissionsQueue,
      args: [input],
      staticSummary: summary,
      ...(accepted.hasSearchAttributes ? { typedSearchAttributes: typedAttributesOf(accepted, input) } : {}),
    });
  } catch (error) {
    // The sweep was faster: it starts submissions that were not started for a while.
    if (error instanceof WorkflowExecutionAlreadyStartedError) return undefined;
    throw error;
  }
}

/** Waits for a submission that is not a child of this workflow. */
async function follow({ input, workflowId }: Submission, observeCall: CallActivities['observeCall']): Promise<void> {
  try {
    for (let pauseMs = 200; ; pauseMs = Math.min(pauseMs * 2, 30_000)) {
      if ((await observeCall([input.submissionId])).open === 0) return;
      await sleep(pauseMs, { summary: 'a submission that the sweep started' });
    }
  } catch (error) {
    if (!isCancellation(error)) throw error;
    await CancellationScope.nonCancellable(() => getExternalWorkflowHandle(workflowId).cancel());
    throw error;
  }
}

/** The search attributes of earlier releases: the server had all of them or none. */
const FORMER: readonly string[] = [
  SEARCH_ATTRIBUTE.endpoint,
  SEARCH_ATTRIBUTE.function,
  SEARCH_ATTRIBUTE.owner,
  SEARCH_ATTRIBUTE.group,
  SEARCH_ATTRIBUTE.state,
];

function typedAttributesOf(
  { searchAttributes = [...FORMER] }: AcceptedSubmissions,
  input: Submission['input'],
): TypedSearchAttributes {
  return new TypedSearchAttributes(
    submissionAttributesOf(input, (name) => searchAttributes.includes(name)).map((one) =>
      one.type === 'INT'
        ? { key: defineSearchAttributeKey(one.name, one.type), value: one.value }
        : { key: defineSearchAttributeKey(one.name, one.type), value: one.value },
    ),
  );
}
