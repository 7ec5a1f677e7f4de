import type { Policy } from './policy';
import type { TaskState } from './states';

/**
 * The interface for pipelines: two workflow types on one Temporal task queue, which a pipeline in any language starts as
 * child workflows. Input and output are JSON; field names are wire names. Workflows import this file, so it must not import zod.
 */

export const CALL_WORKFLOW = { call: 'funcxCall', map: 'funcxMap' } as const;
export const DEFAULT_CALLS_QUEUE = 'funcx-calls';
/** The same operations as a Nexus service. */
export const CALL_NEXUS = { endpoint: 'funcx', service: 'FuncX', call: 'call', map: 'map' } as const;
/** Sent from a call to its pipeline if the pipeline set `progress`. */
export const PROGRESS_SIGNAL = 'funcxProgress';

/** Failure types that a pipeline can catch. */
export const CALL_FAILURE = {
  /** The function failed, or its task was cancelled, expired or lost. One detail: {@link CallFailure}. */
  task: 'FuncXTaskError',
  /** More calls of a map failed than its policy tolerates. One detail: {@link MapFailure}. */
  map: 'FuncXMapError',
  /** The endpoint was offline for longer than `offline.fail_after_s`. */
  offline: 'FuncXEndpointOffline',
  /** The input is invalid or the pipeline has no permission; the message says what to change. */
  refused: 'FuncXRefused',
} as const;

/** The key that makes a JSON object a reference. */
export const REFERENCE_KEY = '$funcx';

/** The key of a marker in place of an input that cannot be decoded; its value says why. */
export const INPUT_ERROR_KEY = '$funcxInputError';

/** Stands for the answer of a task, which stays in the store. Can be an argument of another call of the same owner. */
export interface ReferenceDocument {
  $funcx: 'ref';
  taskId: string;
  /** Size of the serialized value in bytes. */
  size: number;
  /** Hash of the serialized value: `sha256:<hex>`. */
  hash: string;
}

export type OfflinePolicy = 'wait' | { fail_after_s: number };
export type FailurePolicy = 'fail_fast' | 'collect_all' | { tolerate_percent: number };

interface CommonInput {
  /** ID, name or name@version of a function that the pipeline's identity may use. `owner/name` names a shared function. */
  function: string;
  /** ID or name of an endpoint that the pipeline's identity may use. `owner/name` names a shared endpoint. */
  endpoint: string;
  kwargs?: Record<string, unknown>;
  policy?: Policy;
  /** `auto`: returns JSON values as they are and other values as references. `reference`: always returns a reference. */
  result?: 'auto' | 'reference';
  offline?: OfflinePolicy;
  /** Signals progress to the parent workflow. Default: false. */
  progress?: boolean;
}

export interface CallInput extends CommonInput {
  args?: unknown[];
}

export interface MapInput extends CommonInput {
  /** One list of positional arguments for each call. */
  args_list: unknown[][];
  failure?: FailurePolicy;
}

export interface PipelineRun {
  namespace: string;
  workflowId: string;
  runId: string;
}

/** The second argument of a call that is not a child workflow of its pipeline. */
export interface CallOrigin {
  pipeline?: PipelineRun;
}

export interface CallFailure {
  /** Index in `args_list`; 0 for a single call. */
  index: number;
  taskId: string;
  submissionId: string;
  /** One of the task error codes, such as RemoteExecutionError. */
  code: string;
  /** Class name of the remote exception, if the traceback names it. */
  exception?: string;
  /** The remote traceback, or a sentence from the service. */
  traceback: string;
}

export interface MapFailure {
  total: number;
  failed: number;
  /** The first failures; `failed` counts all. */
  failures: CallFailure[];
}

export interface MapResult {
  /** In the order of `args_list`; null where the call failed. */
  values: unknown[];
  failures: CallFailure[];
}

export interface CallProgress {
  /** Workflow id of the call. */
  callId: string;
  /** Name of the function. */
  label: string;
  endpoint: string;
  endpointOnline: boolean;
  /** Unix milliseconds. */
  endpointSinceMs: number;
  counts: Partial<Record<TaskState, number>>;
  total: number;
  /** Links to the submissions in the Temporal UI. */
  links: string[];
}
