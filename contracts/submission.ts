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
  /** Tasks put on the broker, of this submission or of others that were their owners' turn. */
  published: number;
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
