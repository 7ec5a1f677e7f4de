import { z } from 'zod';

import {
  allowedFunctionsSchema,
  deletedSchema,
  endpointDocumentSchema,
  endpointLockSchema,
  endpointsQuerySchema,
  endpointStatusSchema,
} from '../../contracts/http/globus';
import {
  deleteEndpoint,
  findEndpointEvenDeleted,
  listOwnEndpoints,
  listVisibleEndpoints,
  lockEndpoint,
  type EndpointRow,
} from '../../platform/store/endpoints';
import { listEndpointQueues } from '../../platform/store/user-endpoints';
import { checkEndpoint, requireEndpoint, unknownEndpoint } from '../checks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type Route } from '../route';

/** Endpoint routes for Globus Compute clients: read, lock and delete. */

/** For how long a remotely stopped endpoint cannot register. */
const LOCK_S = 10;

export function endpointRoutes(deps: ApiDeps): Route[] {
  const { db } = deps;
  return [
    route({
      method: 'get',
      path: '/v2/endpoints',
      summary: 'Lists your endpoints, or with role=any all endpoints that you may see',
      query: endpointsQuerySchema,
      response: z.array(endpointDocumentSchema),
      handle: async ({ identity, query }) => {
        const rows =
          query.role === 'owner'
            ? await listOwnEndpoints(db, identity.id)
            : await listVisibleEndpoints(db, identity.id, [...identity.groups]);
        return rows.map((row) => endpointDocument(row, row.ownerId === identity.id));
      },
    }),
    route({
      method: 'get',
      path: '/v2/endpoints/:id',
      summary: 'Returns an endpoint that is yours, public or shared with you',
      response: endpointDocumentSchema,
      errors: ['ENDPOINT_NOT_FOUND'],
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'view', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        return endpointDocument(row, row.ownerId === request.identity.id);
      },
    }),
    route({
      method: 'get',
      path: '/v2/endpoints/:id/status',
      summary: 'Returns whether an endpoint is online, and its last report',
      response: endpointStatusSchema,
      errors: ['ENDPOINT_NOT_FOUND'],
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'view', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        return { status: statusOf(row), details: row.lastReport };
      },
    }),
    route({
      method: 'delete',
      path: '/v2/endpoints/:id',
      summary: 'Deletes an endpoint; its agent stops and its open tasks fail',
      response: deletedSchema,
      errors: ['ENDPOINT_NOT_FOUND', 'FORBIDDEN'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'ENDPOINT_NOT_FOUND');
        const row = checkEndpoint(request.identity, 'manage', id, await findEndpointEvenDeleted(db, id));
        await removeEndpoint(deps, row);
        return { result: 302 };
      },
    }),
    route({
      method: 'post',
      path: '/v3/endpoints/:id/lock',
      summary: 'Stops an endpoint remotely; it can register again after a few seconds',
      response: endpointLockSchema,
      errors: ['ENDPOINT_NOT_FOUND', 'FORBIDDEN'],
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'manage', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        const until = await lockEndpoint(db, row.id, LOCK_S);
        if (!until) throw unknownEndpoint(row.id);
        // A stock endpoint notices the revoked credential and reports with its other one; our agent gets a command.
        if (row.kind === 'globus') await deps.endpointUsers.revokeCommand(row.id);
        else await stopAgent(deps, row.id, 'the endpoint was stopped remotely');
        return { endpoint_id: row.id, lock_expiration_timestamp: until.toISOString() };
      },
    }),
    route({
      method: 'get',
      path: '/v3/endpoints/:id/allowed_functions',
      summary: 'Lists the functions to which an endpoint is restricted',
      response: allowedFunctionsSchema,
      errors: ['ENDPOINT_NOT_FOUND'],
      handle: async (request) => {
        const row = await requireEndpoint(db, request.identity, 'view', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
        return { endpoint_id: row.id, restricted: row.allowedFunctions !== null, functions: row.allowedFunctions ?? [] };
      },
    }),
  ];
}

const statusOf = (row: EndpointRow): 'online' | 'offline' => (row.isOnline ? 'online' : 'offline');

/** Only the owner sees the metadata, because it describes the machine. */
function endpointDocument(row: EndpointRow, isOwner: boolean): z.input<typeof endpointDocumentSchema> {
  return {
    ...(isOwner ? row.metadata : {}),
    uuid: row.id,
    name: row.name,
    display_name: row.displayName ?? row.name,
    owner_id: row.ownerId,
    kind: row.kind,
    public: row.isPublic,
    group: row.groupId,
    multi_user: row.isMultiUser,
    status: statusOf(row),
  };
}

/** Sends a stop command if the agent is connected, then revokes its credentials. */
async function stopAgent({ queues, sendCommand, brokerUsers }: ApiDeps, endpointId: string, reason: string): Promise<void> {
  // The command must come before the revocation closes the connection, so that the agent can show the reason.
  if (await queues.hasListener(endpointId)) await sendCommand(endpointId, { command: 'stop', reason });
  await brokerUsers.revokeEndpoint(endpointId);
}

/** Every step is idempotent: if one fails, the caller repeats the request. */
async function removeEndpoint(deps: ApiDeps, { id, kind }: EndpointRow): Promise<void> {
  await deleteEndpoint(deps.db, id); // First, so that the agent cannot register again.
  if (kind === 'globus') await deps.brokerUsers.revokeEndpoint(id);
  else await stopAgent(deps, id, 'the endpoint was deleted');
  await deps.onEndpointDeleted(id);
  // A stock endpoint has a queue for each of its user endpoints.
  for (const queueId of new Set([id, ...(await listEndpointQueues(deps.db, id))])) await deps.queues.delete(queueId);
}
