import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import { usedKey } from '../accepting/accept';
import { checkPayloads, checkTarget, placeTasks } from '../accepting/targets';
import { TerminalError } from '../contracts/errors';
import type { RetryResponse } from '../contracts/http/v1';
import { submissionIdOf } from '../contracts/ids';
import { policySchema } from '../contracts/policy';
import type { EndState } from '../contracts/states';
import type { Identity } from '../platform/access';
import { readSubmitTargets } from '../platform/store/endpoints';
import { readOrStoreTime } from '../platform/store/submissions';
import { readBodies, readSubmitted, type TaskBody } from '../platform/store/task-list';
import { unknownEndpoint } from './checks';
import type { ApiDeps } from './deps';
import { withSameId } from './same-id';
import { idempotencyOf, requireBodyHash } from './submit-headers';

/** Submits tasks that ended without a value again, with the same functions, arguments and endpoint, as new submissions. */

type Deps = Pick<ApiDeps, 'db' | 'accept' | 'placement' | 'repeats'>;
type Idempotency = NonNullable<ReturnType<typeof idempotencyOf>['idempotency']>;

/** The most tasks in one new submission. */
const BATCH_LIMIT = 1_000;

/**
 * The new submissions are in one new task group. They are stored one after another, each under a key of its own, so a repeat of
 * the request submits nothing twice. Without an `Idempotency-Key`, the service chooses the key.
 * Throws what a submit of these tasks would throw: the endpoint or a function may have been deleted since.
 */
export async function retryTasks(
  deps: Deps,
  request: { identity: Identity; req: Request; res: Response },
  submissionIds: readonly string[],
  states: readonly EndState[],
): Promise<RetryResponse> {
  const { identity, req } = request;
  const { idempotency } = idempotencyOf(req);
  const retry = (key: Idempotency, onKept?: () => void): Promise<RetryResponse> =>
    submitAllAgain(deps, identity, key, { submissionIds, states }, onKept);
  if (idempotency) return retry(idempotency);
  return withSameId(deps, request, { work: (key, onKept) => retry({ key, bodyHash: requireBodyHash(req) }, onKept) });
}

async function submitAllAgain(
  deps: Deps,
  identity: Identity,
  { key, bodyHash }: Idempotency,
  { submissionIds, states }: { submissionIds: readonly string[]; states: readonly EndState[] },
  onSubmitted?: () => void,
): Promise<RetryResponse> {
  // Tasks that end later would change the batches of a repeat, and their keys would not be found.
  const { time: until, ...first } = await readOrStoreTime(deps.db, { ownerId: identity.id, key: `${key}/until`, bodyHash });
  if (!first.bodyHash.equals(bodyHash)) throw usedKey();
  const submissions: string[] = [];
  let taskGroupId: string | undefined;
  let tasks = 0;
  for (const submissionId of submissionIds) {
    let after: string | undefined;
    for (;;) {
      const bodies = await readBodies(deps.db, submissionId, { states, limit: BATCH_LIMIT, after, until });
      const last = bodies.at(-1);
      if (last === undefined) break;
      after = last.id;
      const accepted = await submitAgain(deps, identity, submissionId, bodies, {
        taskGroupId: taskGroupId ?? randomUUID(),
        idempotency: { key: `${key}/${after}`, bodyHash },
      });
      onSubmitted?.();
      taskGroupId = accepted.taskGroupId; // the group of the first request, if this request is a repeat
      tasks += bodies.length;
      const ids = new Set(Object.values(accepted.tasks).flat().map(submissionIdOf));
      submissions.push(...ids);
    }
  }
  return { task_group_id: taskGroupId ?? null, tasks, submissions };
}

async function submitAgain(
  { db, accept, placement }: Deps,
  identity: Identity,
  submissionId: string,
  bodies: readonly TaskBody[],
  request: { taskGroupId: string; idempotency: Idempotency },
): ReturnType<ApiDeps['accept']> {
  const submitted = await readSubmitted(db, submissionId);
  if (!submitted) throw new TerminalError('SUBMISSION_NOT_FOUND', `submission ${submissionId} was deleted`);
  const functionIds = [...new Set(bodies.map(({ functionId }) => functionId))];
  const [target] = await readSubmitTargets(db, [submitted.endpointId], functionIds);
  if (!target) throw unknownEndpoint(submitted.endpointId);
  const policy = policySchema.parse(submitted.policy);
  const checked = checkTarget(identity, target, functionIds, policy);
  const calls = functionIds.map((functionId) => ({
    ...checked.describe(functionId),
    payloads: bodies.filter((task) => task.functionId === functionId).map(payloadOf),
  }));
  checkPayloads(
    target,
    calls.flatMap(({ payloads }) => payloads),
  );
  const { endpointQueueId, wake } = await placeTasks(placement, target, {
    ownerId: identity.id,
    config: submitted.config,
    runtime: submitted.runtime,
  });
  const accepted = await accept({
    owner: { id: identity.id, name: identity.name },
    endpoint: { id: target.id, name: target.name },
    endpointQueueId,
    resultQueue: 'none',
    calls,
    policy: checked.policy,
    ...(submitted.resourceSpecification ? { resourceSpecification: submitted.resourceSpecification } : {}),
    ...(submitted.resultSerializers ? { resultSerializers: submitted.resultSerializers } : {}),
    ...request,
  });
  wake();
  return accepted;
}

function payloadOf({ id, body }: TaskBody): string {
  if (body) return body.toString('utf8');
  throw new TerminalError(
    'EXPIRED',
    `an argument of task ${id} refers to a result that was deleted after its retention time; submit the earlier call again`,
  );
}
