import { createHash } from 'node:crypto';

import type { Accept } from '../accepting/accept';
import type { Placement } from '../accepting/placement';
import { checkPayloads, checkTarget, placeTasks } from '../accepting/targets';
import type { AcceptedSubmissions } from '../contracts/activities';
import { TerminalError } from '../contracts/errors';
import { isUuid, submissionIdOf } from '../contracts/ids';
import type { Policy } from '../contracts/policy';
import { submissionInputOf, submissionSummaryOf, workflowUrlOf } from '../contracts/submission';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { findEndpointIds, findFunctionId } from '../platform/store/pipelines';
import { readSubmissionStarts } from '../platform/store/submissions';
import { completeStart, packCalls, type CallArguments, type PackedCalls } from './call-arguments';
import { RESULT_SERIALIZERS } from './call-results';
import type { ActivityDeps } from './deps';

/** Accepts calls of one function on one endpoint. The calling workflow starts the submissions. */

export interface AcceptingDeps {
  accept: Accept;
  placement: Placement;
}

export interface WantedCalls {
  /** ID, name, or name@version. */
  function: string;
  /** ID or name. */
  endpoint: string;
  calls: readonly CallArguments[];
  policy: Policy;
  result: keyof typeof RESULT_SERIALIZERS;
  resourceSpecification?: Record<string, unknown>;
  userEndpointConfig?: Record<string, unknown>;
}

export interface PreparedCalls {
  identity: Identity;
  target: SubmitTarget;
  wanted: WantedCalls;
  packed: PackedCalls;
  functionName: string;
  codeBytes: number;
  policy: Policy;
}

export interface CallAccepting {
  /** Checks and packs the calls. Throws an error that says what the author must change. */
  prepare(identity: Identity, wanted: WantedCalls): Promise<PreparedCalls>;
  /** Stores the calls. Idempotent: repeating a key returns the submissions of the first call. */
  accept(prepared: PreparedCalls, requestKey: string): Promise<AcceptedSubmissions>;
  acceptNone(prepared: PreparedCalls): AcceptedSubmissions;
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
      const checked = checkTarget(identity, target, [functionId], wanted.policy);
      const packed = await packCalls(deps, identity, { functionId, isAgent: target.kind === 'agent' }, wanted.calls);
      checkPayloads(
        target,
        packed.payloads.map((payload) => (typeof payload === 'string' ? payload : completeStart(payload.bytes))),
      );
      const { functionName, codeBytes } = checked.describe(functionId);
      return { identity, target, wanted, packed, policy: checked.policy, functionName, codeBytes };
    },

    async accept({ identity, target, wanted, packed, functionName, codeBytes, policy }, requestKey) {
      const { endpointQueueId, wake } = await placeTasks(deps.placement, target, {
        ownerId: identity.id,
        config: wanted.userEndpointConfig ?? {},
        runtime: {},
      });
      const accepted = await deps.accept({
        owner: { id: identity.id, name: identity.name },
        endpoint: { id: target.id, name: target.name },
        endpointQueueId,
        resultQueue: 'none',
        calls: [{ functionName, codeBytes, ...packed }],
        policy,
        resourceSpecification: wanted.resourceSpecification,
        resultSerializers: RESULT_SERIALIZERS[wanted.result],
        idempotency: { key: requestKey, bodyHash: createHash('sha256').update(requestKey).digest() },
        startsItself: true,
      });
      wake();
      const ids = [...new Set(Object.values(accepted.tasks).flat().map(submissionIdOf))];
      const starts = await readSubmissionStarts(db, ids);
      return {
        ...acceptedOf(wanted.calls.length, functionName, target),
        submissions: starts.map((start) => ({
          input: submissionInputOf(start),
          workflowId: start.workflowId,
          url: workflowUrlOf(config.TEMPORAL_UI_URL, config.TEMPORAL_NAMESPACE, start.workflowId),
          summary: submissionSummaryOf(start, start.ownerName),
        })),
      };
    },

    acceptNone: ({ functionName, target }) => ({ ...acceptedOf(0, functionName, target), submissions: [] }),
  };

  function acceptedOf(total: number, functionName: string, target: SubmitTarget): Omit<AcceptedSubmissions, 'submissions'> {
    return {
      total,
      functionName,
      endpointName: target.name,
      hasSearchAttributes: temporal.searchAttributes.size > 0,
      searchAttributes: [...temporal.searchAttributes],
      submissionsQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
    };
  }
}

async function resolveFunction({ db }: ActivityDeps, identity: Identity, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const at = wanted.lastIndexOf('@');
  const [name, version] = at > 0 ? [wanted.slice(0, at), wanted.slice(at + 1)] : [wanted, undefined];
  const id = await findFunctionId(db, identity, name, version);
  if (id === undefined) {
    throw new TerminalError(
      'FUNCTION_NOT_FOUND',
      `no function ${wanted} is visible to ${identity.name}; register it, or list it in the plugin`,
    );
  }
  return id;
}

async function resolveEndpoint({ db }: ActivityDeps, identity: Identity, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const ids = await findEndpointIds(db, identity, wanted);
  const [id] = ids;
  if (id === undefined)
    throw new TerminalError('ENDPOINT_NOT_FOUND', `no endpoint named ${wanted} is visible to ${identity.name}; check the name`);
  if (ids.length > 1) {
    throw new TerminalError('INVALID_REQUEST', `${ids.length} endpoints are named ${wanted}; give the id: ${ids.join(', ')}`);
  }
  return id;
}
