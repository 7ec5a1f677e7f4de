import { ApplicationFailure, executeChild, ParentClosePolicy, workflowInfo } from '@temporalio/workflow';

import {
  CALL_FAILURE,
  CALL_WORKFLOW,
  DEFAULT_CALLS_QUEUE,
  REFERENCE_KEY,
  type CallFailure,
  type CallInput,
  type FailurePolicy,
  type MapInput,
  type MapResult,
} from '../../contracts/calls';
import { stringifyJsonText } from '../../contracts/json-text';
import type { Policy } from '../../contracts/policy';
import { failureOf } from './errors';
import { registeredFunction, type Arguments, type Reference, type RemoteFunction } from './functions';
import { callEnded, callStarted } from './progress';

/** Calls functions on endpoints from workflow code. Each call is a child workflow that the service runs. */

export interface CallOptions {
  /** Name or ID of the endpoint. */
  endpoint: string;
  kwargs?: Record<string, unknown>;
  /** Retries if the function raises; see docs/pipelines.md. */
  retries?: { attempts: number; backoffS?: number; on?: string[] };
  /** Time limit of one attempt, in seconds. */
  walltimeS?: number;
  /** Time limit of the whole call, in seconds. Default: two weeks. */
  deadlineS?: number;
  /** While the endpoint is offline: wait (default), or fail with FuncXEndpointOffline after this many seconds. */
  whenOffline?: 'wait' | { failAfterS: number };
  /** `reference`: keep the value in the store even if it is JSON. A Python value then keeps its exact type. Default: `auto`. */
  result?: 'auto' | 'reference';
  /** Last part of the call's workflow ID. Default: the function's name and a number. */
  id?: string;
  /** Temporal task queue of the service's calls. Default: `funcx-calls`. */
  callsTaskQueue?: string;
}

export interface MapOptions extends CallOptions {
  /** `failFast` (default), `collectAll`, or the tolerated percentage of failures. */
  failure?: 'failFast' | 'collectAll' | { toleratePercent: number };
}

/** The outcome of one call of a map: its value or its failure. */
export type Settled<R> = { ok: true; value: R } | { ok: false; failure: CallFailure };

type Callable<A extends unknown[], R> = RemoteFunction<A, R> | string;

/** Calls a function on an endpoint and waits for its value. Throws FuncXTaskError if the call fails. */
export async function call<A extends unknown[], R>(
  fn: Callable<A, R>,
  args: Arguments<A>,
  options: CallOptions & { result: 'reference' },
): Promise<Reference<R>>;
export async function call<A extends unknown[], R>(fn: Callable<A, R>, args: Arguments<A>, options: CallOptions): Promise<R>;
export async function call<A extends unknown[], R>(
  fn: Callable<A, R>,
  args: Arguments<A>,
  options: CallOptions,
): Promise<unknown> {
  const remote = asRemote(fn);
  const input: CallInput = { ...commonInput(remote, options), args: [...args] };
  requirePlain(input.args, options.kwargs);
  return start(CALL_WORKFLOW.call, input, remote.name, options);
}

/** Calls a function once for each list of arguments, as one submission. Returns the values in the same order. */
export async function map<A extends unknown[], R>(
  fn: Callable<A, R>,
  argsList: readonly Arguments<A>[],
  options: MapOptions & { result: 'reference'; failure?: 'failFast' },
): Promise<Reference<R>[]>;
export async function map<A extends unknown[], R>(
  fn: Callable<A, R>,
  argsList: readonly Arguments<A>[],
  options: MapOptions & { failure?: 'failFast' },
): Promise<R[]>;
export async function map<A extends unknown[], R>(
  fn: Callable<A, R>,
  argsList: readonly Arguments<A>[],
  options: MapOptions & { failure: 'collectAll' | { toleratePercent: number } },
): Promise<Settled<R>[]>;
export async function map<A extends unknown[], R>(
  fn: Callable<A, R>,
  argsList: readonly Arguments<A>[],
  options: MapOptions,
): Promise<unknown[]> {
  if (argsList.length === 0) return [];
  const remote = asRemote(fn);
  const failure = options.failure ?? 'failFast';
  const input: MapInput = {
    ...commonInput(remote, options),
    args_list: argsList.map((args) => [...args]),
    failure: failurePolicy(failure),
  };
  for (const args of input.args_list) requirePlain(args, options.kwargs);
  const label = argsList.length === 1 ? remote.name : `${remote.name} x${argsList.length}`;
  const { values, failures } = (await start(CALL_WORKFLOW.map, input, label, options)) as MapResult;
  if (failure === 'failFast') return values;
  const reasons = new Map(failures.map((reason) => [reason.index, reason]));
  return values.map((value, index) => {
    const reason = reasons.get(index);
    return reason ? { ok: false, failure: reason } : { ok: true, value };
  });
}

/** Throws FuncXRefused, with the position, for an argument that JSON cannot carry unchanged. */
function requirePlain(args: readonly unknown[] | undefined, kwargs: Readonly<Record<string, unknown>> = {}): void {
  try {
    stringifyJsonText(args ?? [], 'argument list', { bigints: 'refuse' });
    stringifyJsonText(kwargs, 'keyword arguments', { bigints: 'refuse' });
  } catch (error) {
    throw ApplicationFailure.create({
      message: error instanceof Error ? error.message : String(error),
      type: CALL_FAILURE.refused,
      nonRetryable: true,
    });
  }
}

/** True for a reference to a value in the store. */
export function isReference(value: unknown): value is Reference {
  return typeof value === 'object' && value !== null && (value as Record<string, unknown>)[REFERENCE_KEY] === 'ref';
}

let calls = 0;

async function start(type: string, input: CallInput | MapInput, label: string, options: CallOptions): Promise<unknown> {
  const suffix = options.id ?? `${label.replaceAll(' ', '-')}-${++calls}`;
  const callId = `${workflowInfo().workflowId}/${suffix}`;
  callStarted(callId, label, options.endpoint);
  try {
    const value: unknown = await executeChild(type, {
      workflowId: callId,
      taskQueue: options.callsTaskQueue ?? DEFAULT_CALLS_QUEUE,
      args: [input],
      staticSummary: `${label} on ${options.endpoint}`.slice(0, 200),
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
    });
    callEnded(callId);
    return value;
  } catch (thrown) {
    const failure = failureOf(thrown);
    callEnded(callId, failure);
    throw failure;
  }
}

function asRemote<A extends unknown[], R>(fn: Callable<A, R>): RemoteFunction<A, R> {
  return typeof fn === 'string' ? registeredFunction<A, R>(fn) : fn;
}

function commonInput(remote: { ref: string }, options: CallOptions): Omit<CallInput, 'args'> {
  const { endpoint, kwargs, whenOffline, result } = options;
  const policy = policyOf(options);
  return {
    function: remote.ref,
    endpoint,
    progress: true,
    ...(kwargs ? { kwargs } : {}),
    ...(Object.keys(policy).length > 0 ? { policy } : {}),
    ...(result ? { result } : {}),
    ...(whenOffline ? { offline: whenOffline === 'wait' ? 'wait' : { fail_after_s: whenOffline.failAfterS } } : {}),
  };
}

function policyOf({ retries, walltimeS, deadlineS }: CallOptions): Policy {
  return {
    ...(retries
      ? { retries: { attempts: retries.attempts, backoff_s: retries.backoffS ?? 1, ...(retries.on ? { on: retries.on } : {}) } }
      : {}),
    ...(walltimeS === undefined ? {} : { walltime_s: walltimeS }),
    ...(deadlineS === undefined ? {} : { deadline_s: deadlineS }),
  };
}

function failurePolicy(failure: NonNullable<MapOptions['failure']>): FailurePolicy {
  if (failure === 'failFast') return 'fail_fast';
  return failure === 'collectAll' ? 'collect_all' : { tolerate_percent: failure.toleratePercent };
}
