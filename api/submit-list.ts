import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import { ensureError, FuncXError, RetryableError } from '../contracts/errors';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { unknownEndpoint } from './checks';
import type { ApiDeps } from './deps';
import { bodyHashOf } from './middleware/read-body';
import { tasksKey, type Accepted, type AcceptRequest } from '../accepting/accept-request';
import { requirePacked } from '../accepting/payloads';
import { checkPayloads, checkTarget, placeTasks } from '../accepting/targets';
import { idempotencyOf, traceparentOf } from './submit-headers';

/** Accepts a list of tasks, each with its own function and endpoint. */

/** Function ID, endpoint ID, payload. */
export type ListedCall = readonly [string, string, string];

export interface ListRequest {
  tasks: readonly ListedCall[];
  taskGroupId: string | undefined;
  hasQueue: boolean;
  /** True: one invalid task refuses the request. False: invalid tasks are refused one by one and the others accepted. */
  isAllOrNone: boolean;
}

export interface ListOutcome {
  taskGroupId: string;
  /** For each task, in order: its ID, or why it was refused. */
  outcomes: (string | FuncXError)[];
}

interface PlacedCall {
  position: number;
  payload: string;
}
/** Tasks by function ID. */
type Calls = Map<string, PlacedCall[]>;

/**
 * Checks every task, then stores all accepted tasks in one transaction: after an error, nothing of the request is stored, and
 * the client can repeat it. Write the response right after this function resolves.
 */
export async function acceptList(
  deps: ApiDeps,
  { identity, req, res }: { identity: Identity; req: Request; res: Response },
  request: ListRequest,
): Promise<ListOutcome> {
  const outcomes: ListOutcome['outcomes'] = [];
  const refuse = (positions: readonly number[], error: unknown): void => {
    if (request.isAllOrNone || !(error instanceof FuncXError)) throw ensureError(error);
    for (const position of positions) outcomes[position] = error;
  };

  const plan = groupCalls(request.tasks, deps.config.FUNCX_MAX_BODY_CHARS, refuse);
  const [someEndpointId] = plan.keys();
  if (someEndpointId === undefined) return { taskGroupId: request.taskGroupId ?? randomUUID(), outcomes };
  const isForOneEndpoint = plan.size === 1;
  const note = ({ tasks }: Accepted): void => {
    for (const [endpointId, calls] of plan) {
      for (const [functionId, list] of calls) {
        const ids = tasks[tasksKey(functionId, isForOneEndpoint ? undefined : endpointId)];
        list.forEach(({ position }, nth) => (outcomes[position] ??= ids?.[nth] ?? refusedEarlier()));
      }
    }
  };

  const { idempotency } = idempotencyOf(req);
  const bodyHash = idempotency ? undefined : bodyHashOf(req);
  const requested = { ownerId: identity.id, endpointId: someEndpointId };
  const functionIds = new Set(request.tasks.map(([functionId]) => functionId));
  const [targets, wasLost] = await Promise.all([
    readSubmitTargets(deps.db, [...plan.keys()], [...functionIds]),
    bodyHash !== undefined && deps.repeats.hasLost(identity.id, bodyHash),
  ]);
  const earlier = wasLost && bodyHash !== undefined ? await deps.repeats.takeLost(bodyHash, requested) : undefined;
  if (earlier) {
    note(earlier.response);
    await deps.repeats.beforeAnswer(res, earlier.entry, { ...requested, response: earlier.response });
    return { taskGroupId: earlier.response.taskGroupId, outcomes };
  }

  const checked = [...plan].flatMap(([endpointId, calls]) => {
    const target = targets.find(({ id }) => id === endpointId);
    if (!target) {
      refuse(positionsOf(calls), unknownEndpoint(endpointId));
      return [];
    }
    dropForbidden(identity, target, calls, refuse);
    return calls.size === 0 ? [] : [{ target, calls, ...checkTarget(identity, target, [...calls.keys()], {}) }];
  });
  const placed = [];
  // One after another, so that a list for many endpoints does not take all connections to the store.
  for (const { target, calls, policy, describe } of checked) {
    try {
      const { endpointQueueId, wake } = await placeTasks(deps.placement, target, {
        ownerId: identity.id,
        config: {},
        runtime: {},
      });
      const endpoint = { id: target.id, name: target.name };
      placed.push({ calls, describe, wake, target: { endpoint, endpointQueueId, policy } });
    } catch (error) {
      refuse(positionsOf(calls), error);
    }
  }
  const [first] = placed;
  if (!first) return { taskGroupId: request.taskGroupId ?? randomUUID(), outcomes };

  const unanswered = bodyHash && deps.repeats.entry(bodyHash);
  const acceptRequest: AcceptRequest = {
    owner: { id: identity.id, name: identity.name },
    ...first.target,
    taskGroupId: request.taskGroupId ?? randomUUID(),
    resultQueue: request.hasQueue ? 'single' : 'none',
    calls: placed.flatMap(({ calls, describe, target }) =>
      [...calls].map(([functionId, list]) => ({
        ...describe(functionId),
        payloads: list.map(({ payload }) => payload),
        ...(isForOneEndpoint ? {} : { target }),
      })),
    ),
    ...traceparentOf(req),
    ...(idempotency ? { idempotency } : {}),
    ...(unanswered ? { unanswered } : {}),
  };
  const accepted = await deps.repeats.store(unanswered, requested, () => deps.accept(acceptRequest));
  for (const { wake } of placed) wake();
  note(accepted);
  if (unanswered) await deps.repeats.beforeAnswer(res, unanswered, { ...requested, response: accepted });
  return { taskGroupId: accepted.taskGroupId, outcomes };
}

/** The response to the first request with these tasks, which was lost, said why; its reason is not stored. */
const refusedEarlier = (): FuncXError =>
  new RetryableError('This task was refused, but the response that said why was lost. Submit the task again.');

type Refuse = (positions: readonly number[], error: unknown) => void;

const positionsOf = (calls: Calls): number[] => [...calls.values()].flat().map(({ position }) => position);

function dropForbidden(identity: Identity, target: SubmitTarget, calls: Calls, refuse: Refuse): void {
  for (const [functionId, list] of [...calls]) {
    try {
      checkTarget(identity, target, [functionId], {});
      checkPayloads(
        target,
        list.map(({ payload }) => payload),
      );
    } catch (error) {
      refuse(
        list.map(({ position }) => position),
        error,
      );
      calls.delete(functionId);
    }
  }
}

function groupCalls(tasks: readonly ListedCall[], maxChars: number, refuse: Refuse): Map<string, Calls> {
  const plan = new Map<string, Calls>();
  tasks.forEach(([functionId, endpointId, payload], position) => {
    try {
      requirePacked(payload, maxChars, `the payload of task ${position + 1}`);
    } catch (error) {
      refuse([position], error);
      return;
    }
    const calls: Calls = plan.get(endpointId) ?? new Map<string, PlacedCall[]>();
    const list = calls.get(functionId) ?? [];
    list.push({ position, payload });
    plan.set(endpointId, calls.set(functionId, list));
  });
  return plan;
}
