import { COUNT_ATTRIBUTE, SEARCH_ATTRIBUTE } from './names';
import type { Policy } from './policy';
import type { EndState, SubmissionState, TaskState } from './states';
import { limitAttribute, limitSummary } from './temporal-limits';

/** Data that workflows of submissions and endpoints exchange with the service: IDs and states, never bodies. */

export interface SubmissionInput {
  version: 1;
  submissionId: string;
  /** The last of the submissions that share the workflow; `submissionId` is the first. Absent: one submission. */
  lastSubmissionId?: string;
  /** The endpoint queue ID. The field keeps its former name because running workflows use it. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
  ownerId: string;
  /** Absent in workflows of earlier releases. */
  ownerName?: string;
  functionName: string;
  taskGroupId: string;
  total: number;
  /** Unix milliseconds. */
  deadlineMs: number;
  /** Maximum run time of one attempt, if limited. */
  walltimeMs?: number;
  /** Carried over by continue-as-new, or set by the sweep: the workflow continues and does not repeat its first dispatch. */
  carried?: { dispatches: number };
}

/** What the start of a submission's workflow needs to know: from the store, or from the accept that has just stored it. */
export interface SubmissionStart {
  id: string;
  /** The last of the submissions that share the workflow; `id` is the first. Absent or null: one submission. */
  lastId?: string | null;
  workflowId: string;
  ownerId: string;
  ownerName: string;
  endpointId: string;
  endpointName: string;
  endpointQueueId: string;
  taskGroupId: string;
  functionName: string;
  /** Tasks of all submissions of the workflow. */
  total: number;
  policy: Pick<Policy, 'walltime_s'>;
  deadline: Date;
  /** Set to replace a lost or stuck workflow. Its dispatches use up numbers from here on. */
  carried?: { dispatches: number };
}

export function submissionInputOf(start: SubmissionStart): SubmissionInput {
  const walltimeS = start.policy.walltime_s;
  return {
    version: 1,
    submissionId: start.id,
    ...(start.lastId == null ? {} : { lastSubmissionId: start.lastId }),
    taskQueueId: start.endpointQueueId,
    endpointId: start.endpointId,
    endpointName: start.endpointName,
    ownerId: start.ownerId,
    ownerName: start.ownerName,
    functionName: start.functionName,
    taskGroupId: start.taskGroupId,
    total: start.total,
    deadlineMs: start.deadline.getTime(),
    ...(walltimeS === undefined ? {} : { walltimeMs: walltimeS * 1_000 }),
    ...(start.carried ? { carried: start.carried } : {}),
  };
}

export function submissionSummaryOf(
  submission: Pick<SubmissionInput, 'functionName' | 'total' | 'endpointName'>,
  ownerName: string,
): string {
  return limitSummary(`${callLabelOf(submission)} on ${submission.endpointName} for ${ownerName}`);
}

/** The function and the number of calls, such as `simulate x100`. */
export function callLabelOf({ functionName, total }: { functionName: string; total: number }): string {
  return total === 1 ? functionName : `${functionName} x${total}`;
}

export function workflowUrlOf(uiUrl: string, namespace: string, workflowId: string): string {
  return `${uiUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`;
}

/** The page with the current details of a workflow. Unlike the page of the workflow, it needs a run ID. */
export const detailsUrlOf = (workflowUrl: string, runId: string): string => `${workflowUrl}/${runId}/user-metadata`;

export type SubmissionAttribute = { name: string; type: 'KEYWORD'; value: string } | { name: string; type: 'INT'; value: number };

/** The search attributes with which a submission's workflow starts. Omits attributes that the server does not know. */
export function submissionAttributesOf(input: SubmissionInput, isKnown: (name: string) => boolean): SubmissionAttribute[] {
  const keyword = (name: string, value: string): SubmissionAttribute => ({ name, type: 'KEYWORD', value: limitAttribute(value) });
  const { ownerName } = input;
  return [
    keyword(SEARCH_ATTRIBUTE.endpoint, input.endpointId),
    keyword(SEARCH_ATTRIBUTE.endpointName, input.endpointName),
    keyword(SEARCH_ATTRIBUTE.function, input.functionName),
    keyword(SEARCH_ATTRIBUTE.owner, input.ownerId),
    ...(ownerName === undefined ? [] : [keyword(SEARCH_ATTRIBUTE.ownerName, ownerName)]),
    keyword(SEARCH_ATTRIBUTE.group, input.taskGroupId),
    keyword(SEARCH_ATTRIBUTE.state, 'waiting'),
    ...Object.values(COUNT_ATTRIBUTE).map((name): SubmissionAttribute => ({ name, type: 'INT', value: 0 })),
  ].filter(({ name }) => isKnown(name));
}

export interface SubmissionSummary {
  state: SubmissionState;
  counts: Partial<Record<TaskState, number>>;
}

export interface FailureLine {
  taskId: string;
  code: string;
  text: string;
}

export interface QueueState {
  /** Tasks on the broker or with the agent, of every submission. */
  inHand: number;
  /** How many tasks may be in hand. */
  window: number;
  /** How many tasks the agent runs at the same time. */
  workers: number;
  /** Tasks of every submission that wait; counted up to {@link MAX_SHOWN_TASKS}. */
  waiting: number;
  /** How many owners have waiting tasks. */
  owners: number;
  /** The owners with the most waiting tasks, each as `name (tasks)`. */
  ownerNames: string[];
  /** When the oldest waiting submission was accepted; Unix milliseconds. Null when none waits. */
  oldestMs: number | null;
}

/** Counting stops here: a details page needs no exact number for a long queue. */
export const MAX_SHOWN_TASKS = 10_000;

export interface SubmissionProgress {
  open: number;
  counts: Partial<Record<TaskState, number>>;
  /** Set while tasks wait for an online endpoint. Absent in histories of earlier releases, like the optional fields below. */
  queue?: QueueState;
  endpointDeleted?: boolean;
  /** The failure after which the earliest delayed task is retried, and the number of its next attempt. */
  nextAttempt?: { number: number; error: string | null };
  /** Attempts that were lost with their agent and whose tasks are still open. */
  lost?: number;
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

export interface DispatchOutcome {
  /** Number of tasks of this submission that still wait. */
  waiting: number;
  /** True if tasks of this submission were dispatched earlier: they may have answers for which no nudge arrived. */
  isStartedElsewhere: boolean;
  endpointOnline: boolean;
  endpointSinceMs: number;
  /** Absent in histories of earlier releases. */
  queue?: QueueState;
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
  /** True if tasks wait at the endpoint. Absent in signals of earlier releases: tasks may wait. */
  hasWaiting?: boolean;
}

export interface EndReason {
  state: Extract<EndState, 'failed' | 'cancelled' | 'expired'>;
  code: string;
  text: string;
}
