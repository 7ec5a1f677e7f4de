import { SEARCH_ATTRIBUTE, submissionWorkflowId } from './names';
import type { Policy } from './policy';
import type { EndState, SubmissionState, TaskState } from './states';

/** Data that workflows of submissions and endpoints exchange with the service: IDs and states, never bodies. */

export interface SubmissionInput {
  version: 1;
  submissionId: string;
  /** The endpoint queue ID. The field keeps its former name because running workflows use it. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
  ownerId: string;
  functionName: string;
  taskGroupId: string;
  total: number;
  /** Unix milliseconds. */
  deadlineMs: number;
  /** Maximum run time of one attempt, if limited. */
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

/** Temporal's visibility on PostgreSQL keeps keywords in VARCHAR(255) and refuses longer ones. */
const MAX_ATTRIBUTE_CHARS = 255;

/** The search attributes of a submission whose workflow starts; each is a Keyword. */
export function submissionAttributesOf(input: SubmissionInput): { name: string; value: string }[] {
  return [
    { name: SEARCH_ATTRIBUTE.endpoint, value: input.endpointId },
    { name: SEARCH_ATTRIBUTE.function, value: input.functionName.slice(0, MAX_ATTRIBUTE_CHARS) },
    { name: SEARCH_ATTRIBUTE.owner, value: input.ownerId },
    { name: SEARCH_ATTRIBUTE.group, value: input.taskGroupId },
    { name: SEARCH_ATTRIBUTE.state, value: 'waiting' },
  ];
}

export interface SubmissionSummary {
  state: SubmissionState;
  counts: Partial<Record<TaskState, number>>;
}

/** A failed task, as the Temporal UI shows it. */
export interface FailureLine {
  taskId: string;
  code: string;
  text: string;
}

/** The state of a submission in the store, which the workflow reads after a nudge. */
export interface SubmissionProgress {
  open: number;
  counts: Partial<Record<TaskState, number>>;
  /** When the earliest delayed task is due; Unix milliseconds. */
  nextDueMs?: number;
  /** When the earliest dispatched attempt exceeds its walltime plus grace period; Unix milliseconds. */
  nextOverdueMs?: number;
  endpointOnline: boolean;
  /** When the endpoint last went online or offline; Unix milliseconds. */
  endpointSinceMs: number;
  failures: FailureLine[];
}

/** The state of an open submission: `waiting` while none of its tasks is dispatched or running. */
export function openStateOf({ open, counts }: Pick<SubmissionProgress, 'open' | 'counts'>): 'waiting' | 'running' {
  const { waiting = 0, delayed = 0 } = counts;
  return waiting + delayed >= open ? 'waiting' : 'running';
}

/** The outcome of a dispatch, as the workflow needs it. */
export interface DispatchOutcome {
  /** Number of tasks of this submission that still wait. */
  waiting: number;
  /** True if tasks of this submission were dispatched earlier: they may have answers for which no nudge arrived. */
  isStartedElsewhere: boolean;
  endpointOnline: boolean;
  endpointSinceMs: number;
}

export interface EndpointInput {
  version: 1;
  /** The endpoint queue ID; see {@link SubmissionInput.taskQueueId}. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
}

export interface PresenceSignal {
  isOnline: boolean;
  /** Unix milliseconds. */
  sinceMs: number;
}

/** Why open tasks end without a result of their own. */
export interface EndReason {
  state: Extract<EndState, 'failed' | 'cancelled' | 'expired'>;
  code: string;
  text: string;
}
