import type { z } from 'zod';

import { TerminalError } from '../../contracts/errors';
import { coreRegistrationSchema, registerCoreSchema, type CoreRegistration } from '../../contracts/http/globus';
import { commandQueueName, EXCHANGE, QUEUE, statusKey } from '../../contracts/names';
import type { Identity } from '../../platform/access';
import { withAuthority } from '../../platform/broker-urls';
import { findEndpointEvenDeleted, isDeletedEndpoint } from '../../platform/store/endpoints';
import { saveCoreEndpoint } from '../../platform/store/user-endpoints';
import { requireUnlocked } from '../checks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type Route } from '../route';
import { withSameId } from '../same-id';

/** Registration of stock core endpoints, which register at every start and get new broker credentials each time. */

type Registration = z.output<typeof registerCoreSchema>;

export function coreEndpointRoutes(deps: ApiDeps): Route[] {
  const shared = {
    body: registerCoreSchema,
    bodySize: 'large' as const,
    response: coreRegistrationSchema,
    errors: ['CONFLICT', 'ENDPOINT_LOCKED', 'ENDPOINT_NOT_FOUND'] as const,
  };
  return [
    route({
      ...shared,
      method: 'post',
      path: '/v3/endpoints',
      summary: 'Registers a new Globus Compute 4 endpoint',
      handle: ({ identity, body, req, res }) =>
        withSameId(
          deps,
          { identity, req, res },
          { work: (id, onKept) => register(deps, identity, id, body, onKept), isDeleted: (id) => isDeletedEndpoint(deps.db, id) },
        ),
    }),
    route({
      ...shared,
      method: 'put',
      path: '/v3/endpoints/:id',
      summary: 'Registers an existing Globus Compute 4 endpoint again, or a new one with a chosen ID',
      handle: (request) => register(deps, request.identity, idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'), request.body),
    }),
  ];
}

// The endpoint's command line shows 404, 409, 422 and 423 as a message, but 403 as a traceback; so this never throws 403.
async function register(
  deps: ApiDeps,
  identity: Identity,
  id: string,
  wanted: Registration,
  onSaved?: () => void,
): Promise<CoreRegistration> {
  refuseUnsupported(wanted);
  refuseOld(wanted);
  if (!(await checkPresent(deps, identity, id))) await deps.quotas.requireRoomForEndpoint(identity.id);
  const isSaved = await saveCoreEndpoint(deps.db, {
    id,
    ownerId: identity.id,
    name: wanted.endpoint_name,
    displayName: wanted.display_name ?? null,
    isPublic: wanted.public,
    isMultiUser: wanted.multi_user ?? false,
    allowedFunctions: wanted.allowed_functions ?? null,
    metadata: { ...wanted.metadata, ...(wanted.subscription_uuid ? { subscription_uuid: wanted.subscription_uuid } : {}) },
  });
  if (!isSaved) throw taken(id); // A concurrent registration was faster, or another endpoint has a queue with this ID.
  onSaved?.();
  await deps.stockQueues.declareCommands(id);
  const { command, heartbeat } = await deps.endpointUsers.renewCore(id, identity.id);
  return {
    endpoint_id: id,
    command_queue_info: { connection_url: withAuthority(command.url, deps.brokerAuthority), queue: commandQueueName(id) },
    heartbeat_queue_info: {
      connection_url: withAuthority(heartbeat.url, deps.brokerAuthority),
      exchange: EXCHANGE.status,
      queue: QUEUE.status,
      queue_publish_kwargs: {
        exchange: EXCHANGE.status,
        routing_key: statusKey(id),
        mandatory: true,
        properties: { delivery_mode: 2, user_id: heartbeat.name },
      },
    },
  };
}

/** Refuses options whose protection the service does not provide. */
function refuseUnsupported(wanted: Registration): void {
  const refused = wanted.high_assurance
    ? 'high_assurance'
    : wanted.authentication_policy
      ? 'authentication_policy'
      : wanted.admins && wanted.admins.length > 0
        ? 'admins'
        : undefined;
  if (refused === undefined) return;
  throw new TerminalError('INVALID_REQUEST', `this service does not offer "${refused}"; remove it from the configuration`);
}

/** Single-user endpoints before 4.0 read tasks from a queue that this registration response does not contain. */
function refuseOld({ metadata, multi_user: isMultiUser }: Registration): void {
  const version = typeof metadata.endpoint_version === 'string' ? metadata.endpoint_version : '';
  const major = /^(\d+)\./.exec(version)?.[1];
  if (isMultiUser || major === undefined || Number(major) >= 4) return;
  const advice = 'this service needs 4.0 or newer: pip install -U globus-compute-endpoint';
  throw new TerminalError('INVALID_REQUEST', `globus-compute-endpoint ${version} is too old; ${advice}`);
}

/** True if the endpoint exists. */
async function checkPresent({ db }: ApiDeps, identity: Identity, id: string): Promise<boolean> {
  const present = await findEndpointEvenDeleted(db, id);
  if (!present) return false;
  if (present.ownerId !== identity.id) throw taken(id);
  if (present.deletedAt) {
    throw new TerminalError('ENDPOINT_NOT_FOUND', `endpoint ${id} was deleted; remove endpoint.json to register a new one`);
  }
  if (present.kind !== 'globus') {
    throw new TerminalError('CONFLICT', `endpoint ${id} is of kind ${present.kind}; register without this ID`);
  }
  requireUnlocked(present);
  return true;
}

const taken = (id: string): TerminalError =>
  new TerminalError('CONFLICT', `endpoint ${id} belongs to another identity; register without this ID`);
