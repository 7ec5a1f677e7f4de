import { createHash } from 'node:crypto';

import { TerminalError } from '../contracts/errors';
import { isUuid, submissionIdOf } from '../contracts/ids';
import { submissionWorkflowId } from '../contracts/names';
import type { Policy } from '../contracts/policy';
import type { SubmissionInput } from '../contracts/submission';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { findEndpointIds, findFunctionId } from '../platform/store/pipelines';
import { readSubmissionStarts } from '../platform/store/submissions';
import { completeStart, packCalls, type CallArguments, type PackedCalls, type Referring } from './call-arguments';
import { RESULT_SERIALIZERS } from './call-results';
import type { ActivityDeps } from './deps';

/** Accepts calls of one function on one endpoint for a workflow that starts the submissions itself. */

/** What `workers` hands over from the room that accepts requests. */
export interface AcceptingDeps {
  accept(request: {
    owner: { id: string; name: string };
    endpoint: { id: string; name: string };
    endpointQueueId: string;
    createQueue: boolean;
    calls: { functionId: string; functionName: string; payloads: (string | Referring)[] }[];
    policy: Policy;
    resourceSpecification?: Record<string, unknown>;
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
  place(
    target: SubmitTarget,
    request: { ownerId: string; config: Record<string, unknown> },
  ): Promise<{ endpointQueueId: string; wake: () => void }>;
}

export interface WantedCalls {
  /** Id, name, or name@version. */
  function: string;
  /** Id or name. */
  endpoint: string;
  calls: readonly CallArguments[];
  policy: Policy;
  result: keyof typeof RESULT_SERIALIZERS;
  resourceSpecification?: Record<string, unknown>;
  userEndpointConfig?: Record<string, unknown>;
}

/** Checked, packed, and not yet stored. */
export interface PreparedCalls {
  identity: Identity;
  target: SubmitTarget;
  wanted: WantedCalls;
  packed: PackedCalls;
  functionName: string;
  policy: Policy;
}

export interface AcceptedSubmissions {
  total: number;
  functionName: string;
  endpointName: string;
  submissions: { input: SubmissionInput; workflowId: string; url: string; summary: string }[];
  hasSearchAttributes: boolean;
  submissionsQueue: string;
}

export interface CallAccepting {
  /** Throws what the author must change. */
  prepare(identity: Identity, wanted: WantedCalls): Promise<PreparedCalls>;
  /** The same key is the same calls. */
  accept(prepared: PreparedCalls, requestKey: string): Promise<AcceptedSubmissions>;
}

export function createCallAccepting(deps: ActivityDeps & AcceptingDeps): CallAccepting {
  const { db, config, temporal } = deps;

  return {
    async prepare(identity, wanted) {
      const [functionId, endpointId] = await Promise.all([
        resolveFunction(deps, identity, wanted.function),
        resolveEndpoint(deps, identity, wanted.endpoint),
      ]);
      const [target] = await readSubmitTargets(db, [endpointId], [functionId]);
      if (!target)
        throw new TerminalError('ENDPOINT_NOT_FOUND', `endpoint ${endpointId} does not exist or was deleted; check the id`);
      const checked = deps.checkTarget(identity, target, [functionId], wanted.policy);
      const packed = await packCalls(deps, identity, { functionId, isAgent: target.kind === 'agent' }, wanted.calls);
      deps.checkPayloads(
        target,
        packed.payloads.map((payload) => (typeof payload === 'string' ? payload : completeStart(payload.bytes))),
      );
      return { identity, target, wanted, packed, policy: checked.policy, functionName: checked.functionName(functionId) };
    },

    async accept({ identity, target, wanted, packed, functionName, policy }, requestKey) {
      const { endpointQueueId, wake } = await deps.place(target, {
        ownerId: identity.id,
        config: wanted.userEndpointConfig ?? {},
      });
      const accepted = await deps.accept({
        owner: { id: identity.id, name: identity.name },
        endpoint: { id: target.id, name: target.name },
        endpointQueueId,
        createQueue: false,
        calls: [{ functionName, ...packed }],
        policy,
        resourceSpecification: wanted.resourceSpecification,
        resultSerializers: RESULT_SERIALIZERS[wanted.result],
        idempotency: { key: requestKey, bodyHash: createHash('sha256').update(requestKey).digest() },
        startsItself: true,
      });
      wake();
      const ids = [...new Set(Object.values(accepted.tasks).flat().map(submissionIdOf))];
      const starts = await readSubmissionStarts(db, ids);
      const ui = `${config.TEMPORAL_UI_URL.replace(/\/$/, '')}/namespaces/${encodeURIComponent(config.TEMPORAL_NAMESPACE)}/workflows`;
      return {
        total: wanted.calls.length,
        functionName,
        endpointName: target.name,
        submissions: starts.map(({ ownerName, policy: stored, deadline, ...start }) => ({
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
            ...(stored.walltime_s === undefined ? {} : { walltimeMs: stored.walltime_s * 1_000 }),
          },
          workflowId: submissionWorkflowId(start.id),
          url: `${ui}/${encodeURIComponent(submissionWorkflowId(start.id))}`,
          summary:
            `${start.total === 1 ? start.functionName : `${start.functionName} x${start.total}`} on ${start.endpointName} for ${ownerName}`.slice(
              0,
              200,
            ),
        })),
        hasSearchAttributes: temporal.hasSearchAttributes,
        submissionsQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
      };
    },
  };
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
