import type { Request, Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import {
  submitResponseSchema,
  submitSchema,
  submitV2ResponseSchema,
  submitV2Schema,
  type SubmitListResponse,
  type SubmitResponse,
  type SubmitTable,
  type TaskList,
} from '../../contracts/http/globus';
import { isUuid } from '../../contracts/ids';
import type { Identity } from '../../platform/access';
import { unknownEndpoint } from '../checks';
import type { ApiDeps } from '../deps';
import type { Accepted, AcceptRequest } from '../../accepting/accept-request';
import { bodyHashOf } from '../middleware/read-body';
import { requirePacked } from '../../accepting/payloads';
import { idParameter, route, type Route } from '../route';
import { acceptList } from '../submit-list';
import { createTargetReads, type ReadTarget } from '../../accepting/target-reads';
import { checkPayloads, checkSpecification, checkTarget, placeTasks, splitSpecification } from '../../accepting/targets';
import { idempotencyOf, traceparentOf } from '../submit-headers';

/** Submit routes for Globus Compute clients: payloads by function, or a list of tasks. */

interface Submitter {
  identity: Identity;
  req: Request;
  res: Response;
}

const ERRORS = [
  'ENDPOINT_NOT_FOUND',
  'FUNCTION_NOT_FOUND',
  'FORBIDDEN',
  'CONFLICT',
  'PAYLOAD_TOO_LARGE',
  'LIMIT_EXCEEDED',
] as const;

export function submitRoutes(deps: ApiDeps): Route[] {
  const readTarget = createTargetReads(deps.db);
  return [
    route({
      method: 'post',
      path: '/v3/endpoints/:id/submit',
      summary: 'Submits tasks to an endpoint, all or none; returns one ID per task, in order',
      body: submitSchema,
      bodySize: 'submit',
      response: submitResponseSchema,
      errors: ERRORS,
      handle: (request) => submitTable(deps, readTarget, request, idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'), request.body),
    }),
    route({
      method: 'post',
      path: '/v2/submit',
      summary: 'Submits tasks in the formats of older clients',
      body: submitV2Schema,
      bodySize: 'submit',
      response: submitV2ResponseSchema,
      errors: ERRORS,
      handle: (request) =>
        'endpoint_id' in request.body
          ? submitTable(deps, readTarget, request, request.body.endpoint_id, request.body)
          : submitList(deps, request, request.body),
    }),
  ];
}

async function submitTable(
  { config, accept, placement, repeats }: ApiDeps,
  readTarget: ReadTarget,
  { identity, req, res }: Submitter,
  endpointId: string,
  body: SubmitTable,
): Promise<SubmitResponse> {
  const keys = readFunctionIds(Object.keys(body.tasks));
  const functionIds = [...keys.keys()];
  for (const [key, payloads] of Object.entries(body.tasks)) {
    payloads.forEach((payload, index) =>
      requirePacked(payload, config.FUNCX_MAX_BODY_CHARS, `the payload of task ${index + 1} of function ${key}`),
    );
  }
  const { specification, policy } = splitSpecification(body.resource_specification);
  const idempotency = idempotencyOf(req);
  // An idempotency key identifies a repeat. Without a key, an equal request is a repeat only if the response was lost.
  const bodyHash = idempotency.idempotency ? undefined : bodyHashOf(req);
  const [target, wasLost] = await Promise.all([
    readTarget(endpointId, functionIds),
    bodyHash !== undefined && repeats.hasLost(identity.id, bodyHash),
  ]);
  if (!target) throw unknownEndpoint(endpointId);
  const checked = checkTarget(identity, target, functionIds, policy);
  checkPayloads(target, Object.values(body.tasks).flat());
  checkSpecification(target, specification);
  // Return the keys as the client sent them, because the client looks them up.
  const respond = (accepted: Accepted): SubmitResponse => ({
    request_id: accepted.requestId,
    task_group_id: accepted.taskGroupId,
    endpoint_id: endpointId,
    tasks: Object.fromEntries([...keys].map(([functionId, key]) => [key, accepted.tasks[functionId] ?? []])),
  });
  const requested = { ownerId: identity.id, endpointId: target.id };
  const earlier = wasLost && bodyHash !== undefined ? await repeats.takeLost(bodyHash, requested) : undefined;
  if (earlier) {
    await repeats.beforeAnswer(res, earlier.entry, { ...requested, response: earlier.response });
    return respond(earlier.response);
  }

  const { endpointQueueId, wake } = await placeTasks(placement, target, {
    ownerId: identity.id,
    config: body.user_endpoint_config,
    runtime: body.user_runtime,
  });
  const unanswered = bodyHash === undefined ? undefined : repeats.entry(bodyHash);
  const placed: AcceptRequest = {
    owner: { id: identity.id, name: identity.name },
    endpoint: { id: target.id, name: target.name },
    endpointQueueId,
    ...(body.task_group_id ? { taskGroupId: body.task_group_id } : {}),
    resultQueue: !body.create_queue ? 'none' : body.result_batches ? 'batches' : 'single',
    calls: [...keys].map(([functionId, key]) => ({
      ...checked.describe(functionId),
      payloads: body.tasks[key] ?? [],
    })),
    policy: checked.policy,
    resourceSpecification: specification,
    ...(body.result_serializers ? { resultSerializers: body.result_serializers } : {}),
    ...traceparentOf(req),
    ...idempotency,
    unanswered,
  };
  const accepted = await repeats.store(unanswered, requested, () => accept(placed));
  wake();
  if (unanswered) await repeats.beforeAnswer(res, unanswered, { ...requested, response: accepted });
  return respond(accepted);
}

/** Maps each function ID in lower case to the key that the client sent. */
function readFunctionIds(keys: readonly string[]): Map<string, string> {
  const sent = new Map<string, string>();
  for (const key of keys) {
    const id = key.toLowerCase();
    if (!isUuid(id))
      throw new TerminalError('INVALID_REQUEST', `body field "tasks": "${key.slice(0, 100)}" is not a function ID`);
    if (sent.has(id)) throw new TerminalError('INVALID_REQUEST', `body field "tasks": function ${id} occurs twice`);
    sent.set(id, key);
  }
  return sent;
}

/** Checks all tasks before it accepts any. */
async function submitList(deps: ApiDeps, submitter: Submitter, body: TaskList): Promise<SubmitListResponse> {
  const { taskGroupId, outcomes } = await acceptList(deps, submitter, {
    tasks: body.tasks,
    taskGroupId: body.task_group_id ?? undefined,
    hasQueue: body.create_queue ?? body.create_websocket_queue ?? false,
    isAllOrNone: true,
  });
  return {
    response: 'batch',
    task_group_id: taskGroupId,
    results: outcomes.map((outcome) => ({ status: 'Success', task_uuid: String(outcome), http_status_code: 200 })),
  };
}
