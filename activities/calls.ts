import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';

import type { AcceptCallInput, AcceptedCall, CallActivities, CallRequest, CallState } from '../contracts/activities';
import { CALL_FAILURE, INPUT_ERROR_KEY, type CallOrigin, type FailurePolicy } from '../contracts/calls';
import { callInputSchema, mapInputSchema } from '../contracts/call-schemas';
import { FuncXError, TerminalError } from '../contracts/errors';
import { parseExactly } from '../contracts/json-text';
import type { Identity } from '../platform/access';
import { findIdentity, findQueueIdentity } from '../platform/store/pipelines';
import { readProgress } from '../platform/store/submission-progress';
import { markStarted } from '../platform/store/submissions';
import { createCallAccepting, type AcceptingDeps } from './accept-calls';
import { readCallResults } from './call-results';
import type { ActivityDeps } from './deps';

/** Activities for the calls of pipelines: find the identity of a call, accept it, observe its tasks and read its results. */

export function createCallActivities(deps: ActivityDeps & AcceptingDeps): CallActivities {
  const { db } = deps;
  const calls = createCallAccepting(deps);

  async function accept(input: AcceptCallInput & CallRequest): Promise<AcceptedCall> {
    const { call, argsList, failure } = read(input);
    const identity = await identityOf(deps, input);
    const prepared = await calls.prepare(identity, {
      ...call,
      calls: argsList.map((args) => ({ args, kwargs: call.kwargs })),
    });
    const accepted = argsList.length === 0 ? calls.acceptNone(prepared) : await calls.accept(prepared, input.requestKey);
    return { ...accepted, offline: call.offline, failure, progress: call.progress };
  }

  return {
    acceptCall: (input) => translated(() => accept(input)),

    async noteStarted(submissionIds) {
      await markStarted(
        db,
        submissionIds.map((id) => ({ id })),
      );
    },

    async observeCall(submissionIds) {
      const all = await Promise.all(submissionIds.map((id) => readProgress(db, id)));
      const counts: CallState['counts'] = {};
      for (const { counts: some } of all) {
        for (const [state, n] of Object.entries(some) as [keyof typeof counts, number][])
          counts[state] = (counts[state] ?? 0) + n;
      }
      const [first] = all;
      return {
        open: all.reduce((sum, { open }) => sum + open, 0),
        counts,
        endpointOnline: first?.endpointOnline ?? false,
        endpointSinceMs: first?.endpointSinceMs ?? 0,
      };
    },

    readResults: async ({ submissionIds }) => (await readCallResults(db, submissionIds, { parse: parseExactly })).results,
  };
}

function read(input: AcceptCallInput): {
  call: Omit<z.output<typeof callInputSchema>, 'args'>;
  argsList: unknown[][];
  failure: FailurePolicy;
} {
  const unreadable = (input.call as object as Record<string, unknown> | null | undefined)?.[INPUT_ERROR_KEY];
  if (typeof unreadable === 'string') {
    throw new TerminalError('INVALID_REQUEST', `Cannot decode the input of the call: ${unreadable}. Send JSON without a codec.`);
  }
  if (input.kind === 'call') {
    const call = parse(callInputSchema, input.call);
    return { call, argsList: [call.args], failure: 'fail_fast' };
  }
  const call = parse(mapInputSchema, input.call);
  return { call, argsList: call.args_list, failure: call.failure };
}

function parse<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new TerminalError('INVALID_REQUEST', `the input of the call is not well formed: ${z.prettifyError(parsed.error)}`);
}

/** The task queue of the pipeline's workflow determines the identity; docs/pipelines.md says what this protects and what not. */
async function identityOf({ db, config, temporal }: ActivityDeps, { pipeline }: CallOrigin): Promise<Identity> {
  const taskQueue = pipeline && (await temporal.taskQueueOf(pipeline));
  if (pipeline && taskQueue) {
    const bound = await findQueueIdentity(db, pipeline.namespace, taskQueue);
    if (bound) return bound;
  }
  const wanted = config.FUNCX_PIPELINE_IDENTITY;
  const identity = wanted === 'none' ? undefined : await findIdentity(db, wanted);
  if (identity) return identity;
  const caller =
    pipeline && taskQueue
      ? `nobody registered the task queue "${taskQueue}" of workflow ${pipeline.workflowId} in namespace ${pipeline.namespace}`
      : 'the call names no workflow as its origin';
  throw new TerminalError(
    'UNAUTHENTICATED',
    `${caller}, so the service does not know whom the call acts as; run "funcx pipeline register <task queue>" once, ` +
      'or give the worker of the pipeline the plugin (FUNCX_PIPELINE_IDENTITY names an identity for all such calls)',
  );
}

/** Turns errors that the author must fix into final failures of the call. Other errors are rethrown, and Temporal retries. */
async function translated<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof FuncXError) || error.retryAfterS !== undefined) throw error;
    throw ApplicationFailure.create({
      message: error.message,
      type: CALL_FAILURE.refused,
      nonRetryable: true,
      details: [{ code: error.code }],
      cause: error,
    });
  }
}
