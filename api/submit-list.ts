import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { ensureError, FuncXError } from '../contracts/errors';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { unknownEndpoint } from './checks';
import type { ApiDeps } from './deps';
import { requirePacked } from '../accepting/payloads';
import { checkPayloads, checkTarget, placeTasks } from '../accepting/targets';
import { idempotencyOf, traceparentOf } from './submit-headers';

/** Submitting by a list of calls, each with its own function and endpoint. */

/** Function id, endpoint id, payload. */
export type ListedCall = readonly [string, string, string];

export interface ListRequest {
  tasks: readonly ListedCall[];
  taskGroupId: string | undefined;
  createQueue: boolean;
  /** True: one bad call refuses the request. False: bad calls have their own outcome, the others are accepted. */
  isAllOrNone: boolean;
}

export interface ListOutcome {
  taskGroupId: string;
  /** In the order of the calls: the task's id, or why it was not accepted. */
  outcomes: (string | FuncXError)[];
}

interface PlacedCall {
  position: number;
  payload: string;
}
/** By function. */
type Calls = Map<string, PlacedCall[]>;

export async function acceptList(
  deps: ApiDeps,
  identity: Identity,
  req: IncomingMessage,
  request: ListRequest,
): Promise<ListOutcome> {
  const outcomes: ListOutcome['outcomes'] = [];
  const refuse = (positions: readonly number[], error: unknown): void => {
    if (request.isAllOrNone || !(error instanceof FuncXError)) throw ensureError(error);
    for (const position of positions) outcomes[position] = error;
  };

  const plan = groupCalls(request.tasks, deps.config.FUNCX_MAX_BODY_CHARS, refuse);
  const functionIds = new Set(request.tasks.map(([functionId]) => functionId));
  const targets = await readSubmitTargets(deps.db, [...plan.keys()], [...functionIds]);
  const checked = [...plan].flatMap(([endpointId, calls]) => {
    const target = targets.find(({ id }) => id === endpointId);
    if (!target) {
      refuse(positionsOf(calls), unknownEndpoint(endpointId));
      return [];
    }
    dropForbidden(identity, target, calls, refuse);
    return calls.size === 0 ? [] : [{ target, calls, ...checkTarget(identity, target, [...calls.keys()], {}) }];
  });

  let taskGroupId = request.taskGroupId ?? randomUUID();
  const { idempotency } = idempotencyOf(req);
  let isAnyAccepted = false;
  for (const { target, calls, policy, functionName } of checked) {
    try {
      const { endpointQueueId, wake } = await placeTasks(deps.placement, target, {
        ownerId: identity.id,
        config: {},
        runtime: {},
      });
      const accepted = await deps.accept({
        owner: { id: identity.id, name: identity.name },
        endpoint: { id: target.id, name: target.name },
        endpointQueueId,
        taskGroupId,
        createQueue: request.createQueue,
        calls: [...calls].map(([functionId, list]) => ({
          functionId,
          functionName: functionName(functionId),
          payloads: list.map(({ payload }) => payload),
        })),
        policy,
        ...traceparentOf(req),
        ...(idempotency ? { idempotency: { ...idempotency, key: `${idempotency.key} ${target.id}` } } : {}),
      });
      wake();
      taskGroupId = accepted.taskGroupId; // another one when the request was answered before
      for (const [functionId, list] of calls) {
        list.forEach(({ position }, index) => (outcomes[position] = accepted.tasks[functionId]?.[index] ?? ''));
      }
      isAnyAccepted = true;
    } catch (error) {
      // A failed request is repeated by the clients; one whose tasks are partly accepted must not be.
      if (!isAnyAccepted) throw error;
      refuse(positionsOf(calls), error);
    }
  }
  return { taskGroupId, outcomes };
}

type Refuse = (positions: readonly number[], error: unknown) => void;

const positionsOf = (calls: Calls): number[] => [...calls.values()].flat().map(({ position }) => position);

/** Takes out what this caller may not send there. */
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

/** By endpoint, then by function; each call keeps its place in the answer. */
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
