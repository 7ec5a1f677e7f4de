import type { z } from 'zod';

import { CAPABILITY } from '../../contracts/batches';
import { TerminalError } from '../../contracts/errors';
import { MISSED_HEARTBEAT_PERIODS } from '../../contracts/frames';
import { agentRegistrationSchema, registerAgentSchema, type AgentRegistration } from '../../contracts/http/v1';
import { commandQueueName, EXCHANGE, resultKey, statusKey, tasksQueueName } from '../../contracts/names';
import type { Identity } from '../../platform/access';
import { findEndpointEvenDeleted, isDeletedEndpoint, saveAgent, type EndpointRow } from '../../platform/store/endpoints';
import { checkEndpoint, requireGroup, unknownEndpoint, requireUnlocked } from '../checks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type Route } from '../route';
import { withSameId } from '../same-id';

/** Registration of our agents, at every start and whenever an agent needs new credentials. */

/**
 * The window holds this many seconds of work, so another owner's task waits at most this long behind dispatched tasks. Must
 * exceed the dispatch-to-result round trip; otherwise window and rate shrink each other.
 */
export const WINDOW_SPAN_S = 0.1;
export const MIN_WINDOW = 4;
const WINDOW_PER_WORKER = 3;

type Registration = z.output<typeof registerAgentSchema>;

export function agentRoutes(deps: ApiDeps): Route[] {
  const shared = {
    body: registerAgentSchema,
    bodySize: 'large' as const,
    response: agentRegistrationSchema,
    errors: ['FORBIDDEN', 'CONFLICT', 'ENDPOINT_LOCKED', 'ENDPOINT_NOT_FOUND'] as const,
  };
  return [
    route({
      ...shared,
      method: 'post',
      path: '/v1/endpoints',
      summary: 'Registers a new endpoint',
      handle: ({ identity, body, req, res }) =>
        withSameId(
          deps,
          { identity, req, res },
          {
            work: (id, onKept) => registerAgent(deps, identity, id, body, onKept),
            isDeleted: (id) => isDeletedEndpoint(deps.db, id),
          },
        ),
    }),
    route({
      ...shared,
      method: 'put',
      path: '/v1/endpoints/:id',
      access: 'agent',
      summary: 'Registers the agent of an existing endpoint again, or a new endpoint with a chosen ID',
      handle: (request) => {
        const id = idParameter(request, 'id', 'ENDPOINT_NOT_FOUND');
        return registerAgent(deps, registrant(request.identity, id, request.body), id, request.body);
      },
    }),
  ];
}

/** Who registers: the identity of an agent does so for the owner of its endpoint, and cannot share the endpoint. */
function registrant(identity: Identity, id: string, wanted: Registration): Identity {
  const { agentOf } = identity;
  if (!agentOf) return identity;
  if (agentOf.endpointId !== id) {
    throw new TerminalError('FORBIDDEN', `this identity may only serve endpoint ${agentOf.endpointId}, not ${id}`);
  }
  if ((wanted.public === true && !agentOf.mayBePublic) || wanted.group) {
    throw new TerminalError('FORBIDDEN', `the agent may not share endpoint ${id}; only an agent that the owner starts may`);
  }
  return { id: agentOf.ownerId, name: identity.name, isAdmin: false, groups: new Set() };
}

async function registerAgent(
  deps: ApiDeps,
  identity: Identity,
  id: string,
  wanted: Registration,
  onSaved?: () => void,
): Promise<AgentRegistration> {
  const { config, db } = deps;
  const present = await findEndpointEvenDeleted(db, id);
  if (present) await checkPresent(deps, identity, present, wanted);
  if (wanted.group) await requireGroup(db, identity, wanted.group);

  if (!present || present.deletedAt) await deps.quotas.requireRoomForEndpoint(identity.id);
  const windowFloor = Math.max(MIN_WINDOW, WINDOW_PER_WORKER * wanted.workers);
  const isSaved = await saveAgent(db, {
    id,
    ownerId: identity.id,
    name: wanted.name,
    displayName: wanted.display_name ?? null,
    kind: 'agent',
    isPublic: wanted.public ?? present?.isPublic ?? false,
    groupId: wanted.group === undefined ? (present?.groupId ?? null) : wanted.group,
    allowedFunctions: wanted.allowed_functions ?? present?.allowedFunctions ?? null,
    metadata: wanted.metadata,
    incarnation: wanted.incarnation,
    workers: wanted.workers,
    capabilities: wanted.capabilities,
    heartbeatPeriodS: config.FUNCX_HEARTBEAT_PERIOD_S,
    windowFloor,
    windowSpanS: WINDOW_SPAN_S,
  });
  if (!isSaved) throw unknownEndpoint(id); // deleted or created by another owner in the meantime, or a queue of another endpoint.

  onSaved?.();
  await deps.queues.declare(id);
  const url = await deps.brokerUsers.renewAgent(id, identity.id, identity.token?.id);
  deps.log.info({ endpointId: id, kind: 'agent', incarnation: wanted.incarnation }, 'agent registered');
  return {
    endpoint_id: id,
    broker: { url, ca: deps.brokerAuthority },
    task_queue: tasksQueueName(id),
    command_queue: commandQueueName(id),
    results: { exchange: EXCHANGE.results, routing_key: resultKey(id) },
    status: { exchange: EXCHANGE.status, routing_key: statusKey(id) },
    heartbeat_period_s: config.FUNCX_HEARTBEAT_PERIOD_S,
    ack_within_ms: config.FUNCX_ACK_WITHIN_MS,
    inline_body_bytes: config.FUNCX_INLINE_BODY_BYTES,
    max_body_chars: config.FUNCX_MAX_BODY_CHARS,
    max_body_bytes: config.FUNCX_MAX_BODY_CHARS,
    capabilities: Object.values(CAPABILITY),
  };
}

async function checkPresent(deps: ApiDeps, identity: Identity, present: EndpointRow, wanted: Registration): Promise<void> {
  if (present.ownerId !== identity.id) {
    // The same error as for a deleted endpoint, so that the caller does not learn that the ID is in use.
    throw unknownEndpoint(present.id);
  }
  checkEndpoint(identity, 'manage', present.id, present.deletedAt ? undefined : present);
  if (present.kind !== 'agent') {
    throw new TerminalError('CONFLICT', `endpoint ${present.id} is of kind ${present.kind}; register without this ID`);
  }
  requireUnlocked(present);
  if (present.incarnation === wanted.incarnation || !(await isAlive(deps, present))) return;
  if (!wanted.replace) {
    deps.log.warn(
      { endpointId: present.id, kind: 'agent', incarnation: wanted.incarnation },
      'agent refused: another agent of the endpoint is online',
    );
    throw new TerminalError(
      'CONFLICT',
      `another agent of endpoint ${present.id} is online; stop it first, or register with "replace" to take over`,
    );
  }
  await deps.sendCommand(present.id, {
    command: 'stop',
    reason: 'another agent took over the endpoint',
    ...(present.incarnation === null ? {} : { incarnation: present.incarnation }),
  });
}

/** A dead agent's consumer on the command queue disappears immediately; missing heartbeats show its death only later. */
async function isAlive({ queues }: ApiDeps, present: EndpointRow): Promise<boolean> {
  const lastSign = Math.max(present.lastHeartbeatAt?.getTime() ?? 0, present.registeredAt.getTime());
  const isFresh = Date.now() - lastSign < (present.heartbeatPeriodS ?? 0) * MISSED_HEARTBEAT_PERIODS * 1000;
  return isFresh && (await queues.hasListener(present.id));
}
