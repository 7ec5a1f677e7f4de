import { createHash, randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import { ensureError, FuncXError } from '../contracts/errors';
import type { Identity } from '../platform/access';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';
import { unknownEndpoint } from './checks';
import type { ApiDeps } from './deps';
import { bodyHashOf } from './middleware/read-body';
import type { Accepted, AcceptRequest } from '../accepting/accept-request';
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

/** Write the response right after this function resolves. */
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
  const guard = guardOf(deps, identity, idempotency ? undefined : bodyHashOf(req));
  const lost = await Promise.all(checked.map(({ target }) => guard.takeLost(target.id)));
  let isAnyAccepted = false;
  for (const [index, { target, calls, policy, describe }] of checked.entries()) {
    try {
      const note = (accepted: Accepted): void => {
        taskGroupId = accepted.taskGroupId; // A repeat gets the group of the original request.
        for (const [functionId, list] of calls) {
          list.forEach(({ position }, nth) => (outcomes[position] = accepted.tasks[functionId]?.[nth] ?? ''));
        }
        isAnyAccepted = true;
      };
      const earlier = lost[index];
      if (earlier) {
        note(earlier);
        continue;
      }
      const unanswered = guard.entry(target.id);
      const { endpointQueueId, wake } = await placeTasks(deps.placement, target, {
        ownerId: identity.id,
        config: {},
        runtime: {},
      });
      const placed: AcceptRequest = {
        owner: { id: identity.id, name: identity.name },
        endpoint: { id: target.id, name: target.name },
        endpointQueueId,
        taskGroupId,
        resultQueue: request.hasQueue ? 'single' : 'none',
        calls: [...calls].map(([functionId, list]) => ({
          ...describe(functionId),
          payloads: list.map(({ payload }) => payload),
        })),
        policy,
        ...traceparentOf(req),
        ...(idempotency ? { idempotency: { ...idempotency, key: `${idempotency.key} ${target.id}` } } : {}),
        ...(unanswered ? { unanswered } : {}),
      };
      const accepted = await deps.repeats.store(unanswered, { ownerId: identity.id, endpointId: target.id }, () =>
        deps.accept(placed),
      );
      wake();
      guard.note(target.id, accepted);
      note(accepted);
    } catch (error) {
      // Clients repeat a failed request. Once some tasks are accepted the request must not fail, or they would run twice.
      if (!isAnyAccepted) throw error;
      refuse(positionsOf(calls), error);
    }
  }
  await guard.beforeAnswer(res);
  return { taskGroupId, outcomes };
}

/** Recognizes a repeat of the request, separately for each endpoint of the list. Without a hash, it does nothing. */
function guardOf(
  { repeats }: ApiDeps,
  { id: ownerId }: Identity,
  bodyHash: Buffer | undefined,
): {
  takeLost(endpointId: string): Promise<Accepted | undefined>;
  entry(endpointId: string): ReturnType<typeof repeats.entry> | undefined;
  note(endpointId: string, accepted: Accepted): void;
  beforeAnswer(res: Response): Promise<void>;
} {
  const entries = new Map<string, { entry: ReturnType<typeof repeats.entry>; accepted?: Accepted }>();
  const hashFor = (hash: Buffer, endpointId: string): Buffer => createHash('sha256').update(hash).update(endpointId).digest();
  return {
    async takeLost(endpointId) {
      if (!bodyHash || !(await repeats.hasLost(ownerId, hashFor(bodyHash, endpointId)))) return undefined;
      return repeats.takeLost(ownerId, hashFor(bodyHash, endpointId));
    },
    entry(endpointId) {
      if (!bodyHash) return undefined;
      const entry = repeats.entry(hashFor(bodyHash, endpointId));
      entries.set(endpointId, { entry });
      return entry;
    },
    note(endpointId, accepted) {
      const found = entries.get(endpointId);
      if (found) found.accepted = accepted;
    },
    async beforeAnswer(res) {
      for (const [endpointId, { entry, accepted }] of entries) {
        if (accepted) await repeats.beforeAnswer(res, entry, { ownerId, endpointId, response: accepted });
      }
    },
  };
}

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
