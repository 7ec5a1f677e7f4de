import type { CallInput, CallOrigin, CallProgress, CallFailure, FailurePolicy, MapInput, OfflinePolicy } from './calls';
import type { SubmissionState } from './states';
import type { DispatchOutcome, EndReason, QueueState, SubmissionInput, SubmissionProgress } from './submission';

/**
 * The activities that workflows call. Workflows and activities share only these interfaces. Temporal schedules an activity
 * by its method name, and recorded histories hold the names of the fields: change neither.
 */

export interface SubmissionRef {
  submissionId: string;
  /** See {@link SubmissionInput.lastSubmissionId}. */
  lastSubmissionId?: string;
  /** The ID of the endpoint queue. */
  taskQueueId: string;
  endpointId: string;
  endpointName: string;
}

export interface SubmissionActivities {
  /** Publishes waiting tasks of the submission's endpoint queue, in the order that is fair to every owner. */
  dispatch(ref: SubmissionRef & { claimId: string; openBefore: number }): Promise<DispatchOutcome>;
  /**
   * Moves delayed tasks that are due back to waiting. `nowMs` is the workflow's time in Unix milliseconds; workflows of earlier
   * releases send none.
   */
  releaseDueTasks(ref: SubmissionRef & { nowMs?: number }): Promise<number>;
  /** Reads the progress from the store and updates the submission's state there. */
  observe(ref: SubmissionRef & { walltimeMs?: number }): Promise<SubmissionProgress>;
  endOpenTasks(ref: SubmissionRef & { reason: EndReason }): Promise<number>;
  /** Ends the tasks of attempts that exceeded their walltime and that no agent stopped. */
  endOverdueTasks(ref: SubmissionRef & { walltimeMs: number }): Promise<number>;
  finish(ref: SubmissionRef & { state: SubmissionState }): Promise<void>;
}

export interface PumpOutcome {
  dispatched: number;
  /** True when the endpoint was deleted: its workflow ends. */
  isGone: boolean;
  /** True when tasks wait and the window stayed full. The workflow is signalled when a place is free. */
  isParked?: boolean;
}

export interface EndpointActivities {
  /** Dispatches waiting tasks until none wait, the window stays full for a while, or the endpoint is deleted. */
  pump(input: { taskQueueId: string }): Promise<PumpOutcome>;
  /** Reads the state of the endpoint queue, for the Temporal UI. */
  observeQueue(input: { taskQueueId: string }): Promise<QueueReport>;
}

export interface QueueReport extends QueueState {
  isGone: boolean;
}

export type AcceptCallInput = { kind: 'call'; call: CallInput } | { kind: 'map'; call: MapInput };

export interface CallRequest extends CallOrigin {
  /** The same for every retry of this call. */
  requestKey: string;
}

/** Submissions that were accepted for a workflow, which starts them as its children. */
export interface AcceptedSubmissions {
  total: number;
  functionName: string;
  endpointName: string;
  submissions: { input: SubmissionInput; workflowId: string; url: string; summary: string }[];
  /** Whether the server knows the search attributes of the releases before {@link searchAttributes}. */
  hasSearchAttributes: boolean;
  /** The search attributes that the server knows. Absent in histories of earlier releases. */
  searchAttributes?: string[];
  submissionsQueue: string;
}

export interface AcceptedCall extends AcceptedSubmissions {
  offline: OfflinePolicy;
  failure: FailurePolicy;
  progress: boolean;
}

export type CallState = Pick<CallProgress, 'counts' | 'endpointOnline' | 'endpointSinceMs'> & { open: number };

export interface CallResults {
  /** In the order of the calls; null where a call failed. */
  values: unknown[];
  /** The first failures, in the order of the calls. */
  failures: CallFailure[];
  failed: number;
}

export interface CallActivities {
  /** Checks input and access, stores the bodies, and returns which workflows to start. */
  acceptCall(input: AcceptCallInput & CallRequest): Promise<AcceptedCall>;
  /** Records that the workflows run, so that the sweep does not start them. */
  noteStarted(submissionIds: string[]): Promise<void>;
  observeCall(submissionIds: string[]): Promise<CallState>;
  readResults(input: { submissionIds: string[] }): Promise<CallResults>;
}
