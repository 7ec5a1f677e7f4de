import { TerminalError } from '../../contracts/errors';
import { register1Schema, registration1Schema, status1Schema, type Registration1 } from '../../contracts/http/funcx-1.0';
import { EXCHANGE, QUEUE, resultKey, tasksQueueName } from '../../contracts/names';
import type { Identity } from '../../platform/access';
import { findEndpointEvenDeleted, lockEndpoint, saveAgent, type EndpointRow } from '../../platform/store/endpoints';
import { checkEndpoint, requireEndpoint, unknownEndpoint, requireUnlocked } from '../checks';
import type { ApiDeps } from '../deps';
import { withAuthority } from '../../platform/broker-urls';
import { ANSWERED, idParameter, route, type Route } from '../route';
import { createRefusedAgents } from './refused-agents';
import { releaseOf } from './release';

/** Endpoint routes for funcX 1.0 agents and clients (funcx 1.0.4: `funcx/sdk/web_client.py`). */

const KIND = 'funcx-1.0';
/** Default heartbeat period of the agents; their reports contain the actual period. */
const HEARTBEAT_S = 30;
/** Large, because these agents consume without a prefetch limit and queue tasks internally. */
const WINDOW_FLOOR = 1_000;
const WINDOW_SPAN_S = 1.5;
/** The agent checks that the exchange exists but never publishes to it. Every broker has this exchange. */
const TASK_EXCHANGE = 'amq.direct';
const LOCK_S = 10;
const HTTP_ACCEPTED = 202;

export function endpointRoutes(deps: ApiDeps): Route[] {
  const { db } = deps;
  const refusedAgents = createRefusedAgents();
  return [
    route({
      method: 'post',
      path: '/v2/endpoints',
      summary: 'Registers a funcX 1.0 agent; every request creates new broker credentials',
      body: register1Schema,
      bodySize: 'large' as const,
      response: registration1Schema,
      handle: async ({ identity, body, req, res }) => {
        const id = body.endpoint_uuid;
        const present = await findEndpointEvenDeleted(db, id);
        if (present) checkPresent(identity, present);
        // If two agents use the same ID, the running one keeps the endpoint: an evicted 1.0.4 agent would register again and
        // evict the other, forever. An agent that reconnects has no consumer yet, so a consumer belongs to another agent.
        if (present && (await deps.queues.hasConsumer(id))) {
          deps.log.warn({ endpointId: id, kind: KIND }, 'agent refused: another agent of the endpoint is running');
          const reason = `another agent of endpoint ${id} is running; stop that agent first, or start this one with an endpoint ID of its own`;
          if (!refusedAgents.isRepeated(id) || !releaseOf(req)?.registersAgain) throw new TerminalError('CONFLICT', reason);
          res.status(HTTP_ACCEPTED).json({ endpoint_id: id, status: 'Failed', reason });
          return ANSWERED;
        }
        return registerAgent(deps, identity, present, id, body.endpoint_name, {
          ...body.meta,
          ...body.metadata,
          ...(body.version ? { endpoint_version: body.version } : {}),
        });
      },
    }),
    route({
      method: 'get',
      path: '/v2/endpoints/:id/status',
      summary: 'Returns whether an endpoint is online, with its latest report',
      response: status1Schema,
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'view', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        const at = row.lastHeartbeatAt;
        return {
          status: row.isOnline ? 'online' : 'offline',
          logs: at ? [{ ...row.lastReport, timestamp: at.getTime() / 1000 }] : [],
        };
      },
    }),
    route({
      method: 'post',
      path: '/v2/endpoints/:id/lock',
      summary: 'Stops an endpoint: revokes its credentials and refuses its registration for a few seconds',
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'manage', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        const until = await lockEndpoint(db, row.id, LOCK_S);
        if (!until) throw unknownEndpoint(row.id);
        await deps.brokerUsers.revokeEndpoint(row.id);
        return { endpoint_id: row.id, lock_expiration_timestamp: until.toISOString() };
      },
    }),
  ];
}

async function registerAgent(
  deps: ApiDeps,
  identity: Identity,
  present: EndpointRow | undefined,
  id: string,
  name: string,
  metadata: Record<string, unknown>,
): Promise<Registration1> {
  if (!present) await deps.quotas.requireRoomForEndpoint(identity.id);
  const isSaved = await saveAgent(deps.db, {
    id,
    ownerId: identity.id,
    name,
    displayName: present?.displayName ?? null,
    kind: KIND,
    // These agents do not send access rules, so keep the rules that the owner set in another way.
    isPublic: present?.isPublic ?? metadata.public === true,
    groupId: present?.groupId ?? null,
    allowedFunctions: present?.allowedFunctions ?? null,
    metadata,
    incarnation: null,
    workers: 1,
    heartbeatPeriodS: present?.heartbeatPeriodS ?? HEARTBEAT_S,
    windowFloor: WINDOW_FLOOR,
    windowSpanS: WINDOW_SPAN_S,
  });
  // Deleted in the meantime; or created by another owner, perhaps as the queue of a user endpoint.
  if (!isSaved) throw present ? unknownEndpoint(id) : ofAnother(id);

  await deps.queues.declare(id); // The agent declares the queues passively, so they must exist.
  const url = withAuthority(await deps.brokerUsers.renewAgent(id, identity.id, identity.token?.id), deps.brokerAuthority);
  deps.log.info({ endpointId: id, kind: KIND, version: metadata.endpoint_version }, 'agent registered');
  return {
    endpoint_id: id,
    task_queue_info: { connection_url: url, exchange: TASK_EXCHANGE, queue: tasksQueueName(id) },
    result_queue_info: {
      connection_url: url,
      exchange: EXCHANGE.results,
      queue: QUEUE.results,
      queue_publish_kwargs: {
        exchange: EXCHANGE.results,
        routing_key: resultKey(id),
        mandatory: true,
        properties: { delivery_mode: 2 },
      },
    },
  };
}

function checkPresent(identity: Identity, present: EndpointRow): void {
  if (present.ownerId !== identity.id) throw ofAnother(present.id);
  checkEndpoint(identity, 'manage', present.id, present.deletedAt ? undefined : present);
  if (present.kind !== KIND) {
    throw new TerminalError(
      'CONFLICT',
      `endpoint ${present.id} is of kind ${present.kind}, which a funcx-endpoint agent cannot serve; start the agent with another endpoint ID`,
    );
  }
  requireUnlocked(present);
}

const ofAnother = (id: string): TerminalError =>
  new TerminalError('FORBIDDEN', `endpoint ${id} belongs to another identity; start the agent with an endpoint ID of your own`, {
    subject: { kind: 'endpoint', ids: [id] },
  });
