import type { Policy } from './policy';
import type { TaskState } from './states';

/**
 * What a pipeline asks of the service: two workflow types on one task queue, started as child workflows from a pipeline in
 * any language. JSON in, JSON out; the names of the fields are those on the wire. Workflows use this file: no zod here.
 */

export const CALL_WORKFLOW = { call: 'funcxCall', map: 'funcxMap' } as const;
export const DEFAULT_CALLS_QUEUE = 'funcx-calls';
/** The same two as operations of a Nexus service. */
export const CALL_NEXUS = { endpoint: 'funcx', service: 'FuncX', call: 'call', map: 'map' } as const;
/** From a call to its pipeline, when the pipeline asked for it with `progress`. */
export const PROGRESS_SIGNAL = 'funcxProgress';

/** Types of the failures that a pipeline may catch. */
export const CALL_FAILURE = {
  /** The function failed, or its task was cancelled, expired or lost. One detail: {@link CallFailure}. */
  task: 'FuncXTaskError',
  /** More calls of a map failed than its policy tolerates. One detail: {@link MapFailure}. */
  map: 'FuncXMapError',
  /** The endpoint was offline for longer than the call was willing to wait. */
  offline: 'FuncXEndpointOffline',
  /** The input is wrong, or the pipeline may not do this; the message says what to change. */
  refused: 'FuncXRefused',
} as const;

/** The key that makes a JSON object a reference. */
export const REFERENCE_KEY = '$funcx';

/** Stands for the result of a task, which stays in the store; may be an argument of another call of the same owner. */
export interface ReferenceDocument {
  $funcx: 'ref';
  taskId: string;
  /** Bytes of the serialized value. */
  size: number;
  /** Of the serialized value: `sha256:<hex>`. */
  hash: string;
}

export type OfflinePolicy = 'wait' | { fail_after_s: number };
export type FailurePolicy = 'fail_fast' | 'collect_all' | { tolerate_percent: number };

interface CommonInput {
  /** Id, name, or name@version of a function that the pipeline's identity may use. */
  function: string;
  /** Id, or name of an endpoint that the pipeline's identity may use. */
  endpoint: string;
  kwargs?: Record<string, unknown>;
  policy?: Policy;
  /** `auto`: JSON values come back as they are, others as references. `reference`: always a reference. */
  result?: 'auto' | 'reference';
  offline?: OfflinePolicy;
  /** Signals the parent workflow about waiting, running and failures. Default: no. */
  progress?: boolean;
}

export interface CallInput extends CommonInput {
  args?: unknown[];
}

export interface MapInput extends CommonInput {
  /** One list of positional arguments a call. */
  args_list: unknown[][];
  failure?: FailurePolicy;
}

/** The workflow that a call belongs to. */
export interface PipelineRun {
  namespace: string;
  workflowId: string;
  runId: string;
}

/** Second argument of a call that is not the child of its pipeline. */
export interface CallOrigin {
  pipeline?: PipelineRun;
}

/** Why one call has no value. */
export interface CallFailure {
  /** Place in `args_list`; 0 for a single call. */
  index: number;
  taskId: string;
  submissionId: string;
  /** One of the task error codes, such as RemoteExecutionError. */
  code: string;
  /** Class name of the remote exception, when it can be told. */
  exception?: string;
  /** The remote traceback, or a sentence of the service. */
  traceback: string;
}

export interface MapFailure {
  total: number;
  failed: number;
  /** The first few. */
  failures: CallFailure[];
}

export interface MapResult {
  /** In the order of `args_list`; null where the call failed. */
  values: unknown[];
  failures: CallFailure[];
}

/** What a call tells its pipeline. */
export interface CallProgress {
  /** Workflow id of the call. */
  callId: string;
  /** Function and endpoint as people read them. */
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
