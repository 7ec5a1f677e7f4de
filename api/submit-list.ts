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

/** Accepts a list of tasks, each with its own function and endpoint. */

/** Function ID, endpoint ID, payload. */
export type ListedCall = readonly [string, string, string];

export interface ListRequest {
  tasks: readonly ListedCall[];
  taskGroupId: string | undefined;
  createQueue: boolean;
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
      taskGroupId = accepted.taskGroupId; // A repeat gets the group of the original request.
      for (const [functionId, list] of calls) {
        list.forEach(({ position }, index) => (outcomes[position] = accepted.tasks[functionId]?.[index] ?? ''));
      }
      isAnyAccepted = true;
    } catch (error) {
      // Clients repeat a failed request. Once some tasks are accepted the request must not fail, or they would run twice.
      if (!isAnyAccepted) throw error;
      refuse(positionsOf(calls), error);
    }
  }
  return { taskGroupId, outcomes };
}

type Refuse = (positions: readonly number[], error: unknown) => void;

const positionsOf = (calls: Calls): number[] => [...calls.values()].flat().map(({ position }) => position);

/** Refuses the tasks that this identity may not send to the target. */
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

/** Groups tasks by endpoint and function, and keeps the position of each in the response. */
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
