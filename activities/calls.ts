import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';

import {
  CALL_FAILURE,
  type CallInput,
  type CallOrigin,
  type CallProgress,
  type FailurePolicy,
  type MapInput,
  type OfflinePolicy,
} from '../contracts/calls';
import { callInputSchema, mapInputSchema } from '../contracts/call-schemas';
import { FuncXError, TerminalError } from '../contracts/errors';
import { isUuid, submissionIdOf } from '../contracts/ids';
import { submissionWorkflowId } from '../contracts/names';
import type { Policy } from '../contracts/policy';
import type { SubmissionInput } from '../contracts/submission';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { findEndpointIds, findFunctionId, findIdentity, findQueueIdentity } from '../platform/store/pipelines';
import { readProgress } from '../platform/store/submission-progress';
import { markStarted, readSubmissionStarts } from '../platform/store/submissions';
import { completeStart, packCalls, type Referring } from './call-arguments';
import { readCallResults, RESULT_SERIALIZERS, type CallResults } from './call-results';
import type { ActivityDeps } from './deps';

/** The calls of pipelines: who they act as, accept, watch, read. */

export type AcceptCallInput = { kind: 'call'; call: CallInput } | { kind: 'map'; call: MapInput };

export interface CallRequest extends CallOrigin {
  /** The same for every try of this call. */
  requestKey: string;
}

export interface AcceptedCall {
  total: number;
  functionName: string;
  endpointName: string;
  submissions: { input: SubmissionInput; workflowId: string; url: string; summary: string }[];
  hasSearchAttributes: boolean;
  submissionsQueue: string;
  offline: OfflinePolicy;
  failure: FailurePolicy;
  progress: boolean;
}

export type CallState = Pick<CallProgress, 'counts' | 'endpointOnline' | 'endpointSinceMs'> & { open: number };

export interface CallActivities {
  /** Checks the input and the access, stores the bodies, and says which workflows are to be started. */
  acceptCall(input: AcceptCallInput & CallRequest): Promise<AcceptedCall>;
  /** Tells the sweep that the workflows run. */
  noteStarted(submissionIds: string[]): Promise<void>;
  observeCall(submissionIds: string[]): Promise<CallState>;
  readResults(input: { submissionIds: string[] }): Promise<CallResults>;
}

/** What `workers` hands over from the room that accepts requests. */
export interface AcceptingDeps {
  accept(request: {
    owner: { id: string; name: string };
    endpoint: { id: string; name: string };
    endpointQueueId: string;
    createQueue: boolean;
    calls: { functionId: string; functionName: string; payloads: (string | Referring)[] }[];
    policy: Policy;
    resultSerializers: string[];
    idempotency: { key: string; bodyHash: Buffer };
    startsItself: true;
  }): Promise<{ tasks: Record<string, string[]> }>;
  checkTarget(
    identity: Identity,
    target: SubmitTarget,
    functionIds: readonly string[],
    requested: Policy,
  ): { policy: Policy; functionName: (id: string) => string };
  /** Throws where the endpoint's agent can't read how the arguments are serialized. */
  checkPayloads(target: SubmitTarget, payloads: readonly string[]): void;
  /** The endpoint queue; `wake`, after the tasks are stored, has what serves it started where that is ours to ask. */
  place(target: SubmitTarget, ownerId: string): Promise<{ endpointQueueId: string; wake: () => void }>;
}

export function createCallActivities(deps: ActivityDeps & AcceptingDeps): CallActivities {
  const { db, config, temporal } = deps;

  async function accept(input: AcceptCallInput & CallRequest): Promise<AcceptedCall> {
    const { call, argsList, failure } = read(input);
    const identity = await identityOf(deps, input);
    const [functionId, endpointId] = await Promise.all([
      resolveFunction(deps, identity, call.function),
      resolveEndpoint(deps, identity, call.endpoint),
    ]);
    const [target] = await readSubmitTargets(db, [endpointId], [functionId]);
    if (!target)
      throw new TerminalError('ENDPOINT_NOT_FOUND', `endpoint ${endpointId} does not exist or was deleted; check the id`);
    const checked = deps.checkTarget(identity, target, [functionId], call.policy);
    const functionName = checked.functionName(functionId);
    const packed = await packCalls(deps, identity, { functionId, isAgent: target.kind === 'agent' }, argsList, call.kwargs);
    deps.checkPayloads(
      target,
      packed.payloads.map((payload) => (typeof payload === 'string' ? payload : completeStart(payload.bytes))),
    );
    const { endpointQueueId, wake } = await deps.place(target, identity.id);
    const accepted = await deps.accept({
      owner: { id: identity.id, name: identity.name },
      endpoint: { id: target.id, name: target.name },
      endpointQueueId,
      createQueue: false,
      calls: [{ functionName, ...packed }],
      policy: checked.policy,
      resultSerializers: RESULT_SERIALIZERS[call.result],
      idempotency: { key: input.requestKey, bodyHash: createHash('sha256').update(input.requestKey).digest() },
      startsItself: true,
    });
    wake();
    const ids = [...new Set(Object.values(accepted.tasks).flat().map(submissionIdOf))];
    const starts = await readSubmissionStarts(db, ids);
    return {
      total: argsList.length,
      functionName,
      endpointName: target.name,
      submissions: starts.map(({ ownerName, policy, deadline, ...start }) => ({
        input: {
          version: 1,
          submissionId: start.id,
          taskQueueId: start.endpointQueueId,
          endpointId: start.endpointId,
          endpointName: start.endpointName,
          ownerId: start.ownerId,
          functionName: start.functionName,
          taskGroupId: start.taskGroupId,
          total: start.total,
          deadlineMs: deadline.getTime(),
          ...(policy.walltime_s === undefined ? {} : { walltimeMs: policy.walltime_s * 1_000 }),
        },
        workflowId: submissionWorkflowId(start.id),
        url: `${config.TEMPORAL_UI_URL.replace(/\/$/, '')}/namespaces/${encodeURIComponent(config.TEMPORAL_NAMESPACE)}/workflows/${encodeURIComponent(submissionWorkflowId(start.id))}`,
        summary:
          `${start.total === 1 ? start.functionName : `${start.functionName} x${start.total}`} on ${start.endpointName} for ${ownerName}`.slice(
            0,
            200,
          ),
      })),
      hasSearchAttributes: temporal.hasSearchAttributes,
      submissionsQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
      offline: call.offline,
      failure,
      progress: call.progress,
    };
  }

  return {
    acceptCall: (input) => translated(() => accept(input)),

    async noteStarted(submissionIds) {
      await markStarted(db, submissionIds);
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

    readResults: ({ submissionIds }) => readCallResults(db, submissionIds),
  };
}

function read(input: AcceptCallInput): {
  call: Omit<z.output<typeof callInputSchema>, 'args'>;
  argsList: unknown[][];
  failure: FailurePolicy;
} {
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

/** The task queue of the pipeline's workflow says whom it acts as; see docs/pipelines.md for what that does and does not protect. */
async function identityOf({ db, config, temporal }: ActivityDeps, { pipeline }: CallOrigin): Promise<Identity> {
  if (pipeline) {
    const taskQueue = await temporal.taskQueueOf(pipeline);
    const bound = await findQueueIdentity(db, pipeline.namespace, taskQueue);
    if (bound) return bound;
  }
  const wanted = config.FUNCX_PIPELINE_IDENTITY ?? bootstrapIdentity(config.FUNCX_BOOTSTRAP_IDENTITY_FILE);
  const identity = wanted === undefined || wanted === 'none' ? undefined : await findIdentity(db, wanted);
  if (identity) return identity;
  throw new TerminalError(
    'UNAUTHENTICATED',
    'nobody registered the task queue of this pipeline, and the service has no default identity for calls; ' +
      'give the worker of the pipeline the plugin, or PUT /v1/pipelines/<task queue> once',
  );
}

function bootstrapIdentity(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  return z.object({ client_id: z.string() }).parse(JSON.parse(readFileSync(file, 'utf8'))).client_id;
}

async function resolveFunction({ db }: ActivityDeps, identity: Identity, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const at = wanted.lastIndexOf('@');
  const [name, version] = at > 0 ? [wanted.slice(0, at), wanted.slice(at + 1)] : [wanted, undefined];
  const id = await findFunctionId(db, identity, name, version);
  if (id === undefined) {
    throw new TerminalError(
      'FUNCTION_NOT_FOUND',
      `${identity.name} sees no function ${wanted}; register it, or list it in the plugin`,
    );
  }
  return id;
}

async function resolveEndpoint({ db }: ActivityDeps, identity: Identity, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const ids = await findEndpointIds(db, identity, wanted);
  const [id] = ids;
  if (id === undefined)
    throw new TerminalError('ENDPOINT_NOT_FOUND', `${identity.name} sees no endpoint named ${wanted}; check the name`);
  if (ids.length > 1) {
    throw new TerminalError('INVALID_REQUEST', `${ids.length} endpoints are named ${wanted}; give the id: ${ids.join(', ')}`);
  }
  return id;
}

/** Errors of the service as failures of the call: what the author must change is final, the rest is tried again. */
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
