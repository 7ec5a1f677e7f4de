import { SEARCH_ATTRIBUTE, submissionWorkflowId } from './names';
import type { Policy } from './policy';
import type { EndState, SubmissionState, TaskState } from './states';

/** What crosses between the service's processes and a submission's workflow: ids and states, never bodies. */

export interface SubmissionInput {
  version: 1;
  submissionId: string;
  /** The endpoint queue. Workflows that run today know the field by this name. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
  ownerId: string;
  functionName: string;
  taskGroupId: string;
  total: number;
  /** Unix milliseconds. */
  deadlineMs: number;
  /** Run time of one attempt, if limited. */
  walltimeMs?: number;
  /** Carried over by continue-as-new. */
  carried?: { dispatches: number };
}

/** What the store, or an accept that has just written it there, knows about a submission whose workflow is to start. */
export interface SubmissionStart {
  id: string;
  ownerId: string;
  ownerName: string;
  endpointId: string;
  endpointName: string;
  endpointQueueId: string;
  taskGroupId: string;
  functionName: string;
  total: number;
  policy: Pick<Policy, 'walltime_s'>;
  deadline: Date;
}

export function submissionInputOf(start: SubmissionStart): SubmissionInput {
  const walltimeS = start.policy.walltime_s;
  return {
    version: 1,
    submissionId: start.id,
    taskQueueId: start.endpointQueueId,
    endpointId: start.endpointId,
    endpointName: start.endpointName,
    ownerId: start.ownerId,
    functionName: start.functionName,
    taskGroupId: start.taskGroupId,
    total: start.total,
    deadlineMs: start.deadline.getTime(),
    ...(walltimeS === undefined ? {} : { walltimeMs: walltimeS * 1_000 }),
  };
}

/** Temporal refuses a longer static summary. */
const MAX_SUMMARY_CHARS = 200;

/** The line that the Temporal UI shows for a submission. */
export function submissionSummaryOf(
  submission: Pick<SubmissionInput, 'functionName' | 'total' | 'endpointName'>,
  ownerName: string,
): string {
  return `${callLabelOf(submission)} on ${submission.endpointName} for ${ownerName}`.slice(0, MAX_SUMMARY_CHARS);
}

/** The function and the number of calls, such as `simulate x100`. */
export function callLabelOf({ functionName, total }: { functionName: string; total: number }): string {
  return total === 1 ? functionName : `${functionName} x${total}`;
}

/** The page of a submission in the Temporal UI. */
export function submissionUrlOf(uiUrl: string, namespace: string, submissionId: string): string {
  const workflowId = encodeURIComponent(submissionWorkflowId(submissionId));
  return `${uiUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows/${workflowId}`;
}

/** The search attributes of a submission whose workflow starts; each is a Keyword. */
export function submissionAttributesOf(input: SubmissionInput): { name: string; value: string }[] {
  return [
    { name: SEARCH_ATTRIBUTE.endpoint, value: input.endpointId },
    { name: SEARCH_ATTRIBUTE.function, value: input.functionName },
    { name: SEARCH_ATTRIBUTE.owner, value: input.ownerId },
    { name: SEARCH_ATTRIBUTE.group, value: input.taskGroupId },
    { name: SEARCH_ATTRIBUTE.state, value: 'waiting' },
  ];
}

export interface SubmissionSummary {
  state: SubmissionState;
  counts: Partial<Record<TaskState, number>>;
}

/** A failed task as the watcher sees it. */
export interface FailureLine {
  taskId: string;
  code: string;
  text: string;
}

/** The store's view of a submission, read by local activity after a nudge. */
export interface SubmissionProgress {
  open: number;
  counts: Partial<Record<TaskState, number>>;
  /** When the earliest delayed task is due; Unix milliseconds. */
  nextDueMs?: number;
  /** When the earliest attempt in hand passes its walltime, grace included; Unix milliseconds. */
  nextOverdueMs?: number;
  endpointOnline: boolean;
  /** Since when the endpoint is online or offline; Unix milliseconds. */
  endpointSinceMs: number;
  failures: FailureLine[];
}

/** What an open submission is shown as: waiting while nothing of it is anywhere but in the store. */
export function openStateOf({ open, counts }: Pick<SubmissionProgress, 'open' | 'counts'>): 'waiting' | 'running' {
  const { waiting = 0, delayed = 0 } = counts;
  return waiting + delayed >= open ? 'waiting' : 'running';
}

/** What a dispatch did, as far as the workflow cares. */
export interface DispatchOutcome {
  /** Tasks of this submission that still wait. */
  waiting: number;
  /** True when somebody else dispatched some of them before: they may have been answered, and the nudge missed. */
  isStartedElsewhere: boolean;
  endpointOnline: boolean;
  endpointSinceMs: number;
}

export interface EndpointInput {
  version: 1;
  /** The endpoint queue; see {@link SubmissionInput.taskQueueId}. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
}

export interface PresenceSignal {
  isOnline: boolean;
  /** Unix milliseconds. */
  sinceMs: number;
}

/** Why open tasks of a submission end without their own result. */
export interface EndReason {
  state: Extract<EndState, 'failed' | 'cancelled' | 'expired'>;
  code: string;
  text: string;
}
