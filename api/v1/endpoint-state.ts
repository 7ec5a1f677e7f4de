import { endpointStateSchema } from '../../contracts/http/v1';
import { endpointWorkflowId } from '../../contracts/names';
import { detailsUrlOf, workflowUrlOf } from '../../contracts/submission';
import { listEndpointQueues, readQueueState } from '../../platform/store/submission-progress';
import { requireEndpoint } from '../checks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type Route } from '../route';

/** The current state of an endpoint, for everybody who may see the endpoint: users of a public endpoint need it too. */

const MAX_QUEUES = 20;

export function endpointStateRoute({ db, config, latestRunOf }: ApiDeps): Route {
  return route({
    method: 'get',
    path: '/v1/endpoints/:id',
    summary: 'Returns whether an endpoint is online and since when, and what it has in hand and waiting',
    response: endpointStateSchema,
    errors: ['ENDPOINT_NOT_FOUND'],
    handle: async (request) => {
      const { identity } = request;
      const row = await requireEndpoint(db, identity, 'view', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));
      const { ownerName, queues } = await listEndpointQueues(db, row.id, MAX_QUEUES);
      const own = queues.find(({ id }) => id === row.id);
      const workflowId = endpointWorkflowId(row.id);
      const [states, runId] = await Promise.all([
        Promise.all(queues.map(({ id }) => readQueueState(db, id))),
        latestRunOf(workflowId),
      ]);
      const sum = (of: (state: (typeof states)[number]) => number): number =>
        states.reduce((total, state) => total + of(state), 0);
      const oldest = states.flatMap(({ oldestMs }) => oldestMs ?? []);
      const url = workflowUrlOf(config.TEMPORAL_UI_URL, config.TEMPORAL_NAMESPACE, workflowId);
      const mayKnow = identity.isAdmin || row.ownerId === identity.id;
      return {
        endpoint_id: row.id,
        name: row.name,
        kind: row.kind,
        public: row.isPublic,
        group_id: mayKnow ? row.groupId : null,
        owner_id: row.ownerId,
        owner_name: ownerName,
        status: row.isOnline ? 'online' : 'offline',
        since: own === undefined || row.lastHeartbeatAt === null ? null : own.changedAt.toISOString(),
        last_heartbeat_at: row.lastHeartbeatAt?.toISOString() ?? null,
        workers: sum(({ workers }) => workers),
        in_hand: sum(({ inHand }) => inHand),
        window: sum(({ window }) => window),
        waiting: sum(({ waiting }) => waiting),
        waiting_since: oldest.length === 0 ? null : new Date(Math.min(...oldest)).toISOString(),
        waiting_owners: mayKnow ? states.flatMap(({ ownerNames }) => ownerNames) : [],
        temporal_url: runId === undefined ? url : detailsUrlOf(url, runId),
      };
    },
  });
}
