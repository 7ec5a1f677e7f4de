import { SEARCH_ATTRIBUTE } from './names';

/** What API, workflows and store share about flows. A history holds only IDs, names of states and times, never values. */

export const FLOW_WORKFLOW = { run: 'flowRun', line: 'flowLine', map: 'flowMap' } as const;
export const DEFAULT_FLOWS_QUEUE = 'funcx-flows';
/** Query of a run: its steps, as the current details show them. */
export const FLOW_QUERY = { steps: 'steps' } as const;

const RUN_PREFIX = 'flow-run/';
export const flowWorkflowId = (runId: string): string => RUN_PREFIX + runId;
/** The inverse of {@link flowWorkflowId}; undefined for other workflows, including the lines of a `Map` or `Parallel` state. */
export const flowRunIdOfWorkflow = (workflowId: string): string | undefined => {
  const rest = workflowId.startsWith(RUN_PREFIX) ? workflowId.slice(RUN_PREFIX.length) : undefined;
  return rest === undefined || rest.includes('/') ? undefined : rest;
};

/** The input of `flowRun`. Definition and body are read from the store by the ID of the run. */
export interface FlowRunInput {
  version: 1;
  runId: string;
  flowId: string;
  title: string;
  ownerId: string;
  /** 0 for the first start; each resume adds one. */
  generation: number;
}

export const flowAttributesOf = ({ flowId, ownerId }: FlowRunInput): { name: string; value: string }[] => [
  { name: SEARCH_ATTRIBUTE.flow, value: flowId },
  { name: SEARCH_ATTRIBUTE.owner, value: ownerId },
];

/** What `flowRun` returns; a run that failed or was cancelled ends its workflow as failed or cancelled. */
export interface FlowRunSummary {
  status: 'SUCCEEDED';
  /** States that were entered. */
  steps: number;
}

export const FLOW_RUN_STATUSES = ['ACTIVE', 'INACTIVE', 'SUCCEEDED', 'FAILED'] as const;
export type FlowRunStatus = (typeof FLOW_RUN_STATUSES)[number];

/** Codes in the `details` and the log of a run. The codes of states are `<Type>Started`, `<Type>Completed` and `<Type>Failed`. */
export const FLOW_CODE = {
  starting: 'FlowStarting',
  started: 'FlowStarted',
  active: 'FlowActive',
  resumed: 'FlowResumed',
  succeeded: 'FlowSucceeded',
  failed: 'FlowFailed',
  canceled: 'FlowCanceled',
} as const;

export interface FlowLogEntry {
  /** ISO 8601. */
  time: string;
  code: string;
  description: string;
  details: Record<string, unknown>;
}

/** Names of errors that a `Catch` may name. */
export const FLOW_ERROR = {
  all: 'States.ALL',
  unableToRun: 'ActionUnableToRun',
  failed: 'ActionFailedException',
  timeout: 'ActionTimeout',
  parameterPath: 'States.ParameterPathFailure',
  intrinsic: 'States.IntrinsicFailure',
  resultPath: 'States.ResultPathMatchFailure',
  noChoice: 'States.NoChoiceMatched',
  /** A value or the whole state is larger than a run may hold. */
  dataLimit: 'States.DataLimitExceeded',
  /** A branch of a `Parallel` state failed without the name of an error. */
  branch: 'States.BranchFailed',
  /** More items of a `Map` state failed than it tolerates. */
  tolerated: 'States.ExceedToleratedFailureThreshold',
  runtime: 'States.Runtime',
  noToken: 'NoTokenException',
} as const;

/** A mistake in a definition: where, and what to do. */
export interface FlowProblem {
  /** The path from the top of the definition, of names and indexes, such as `["States", "A", "Next"]`. */
  loc: (string | number)[];
  msg: string;
  /** A short stable word, such as `missing`, `extra_forbidden`, `type_error`, `value_error`, `expression_syntax`. */
  type: string;
  /** A provider that is out of scope or unknown. The API responds with 409 if there is no other problem. */
  code?: 'SCOPE_RESOLUTION_FAILED';
}

export interface FlowAnalysis {
  problems: FlowProblem[];
  /** The scopes that the definition needs, by `RunAs`. */
  scopes: { User: string[] };
  /** What the hosted service would refuse. */
  notPortable: { loc: (string | number)[]; msg: string }[];
}

export interface FlowRules {
  /** URLs of actions that may run over HTTP, besides those that the service runs itself. `https://host/*` allows all below. */
  allowedUrls?: readonly string[];
}
