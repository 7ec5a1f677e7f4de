import { groupQueuePrefix } from '../../contracts/names';
import { resultConnectionQuerySchema, resultConnectionSchema } from '../../contracts/http/globus';
import { withAuthority } from '../../platform/broker-urls';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** The AMQP connection on which a submitter reads the results of its task groups. */

export function resultsConnectionRoutes({ brokerUsers, brokerAuthority }: ApiDeps): Route[] {
  return [
    route({
      method: 'get',
      path: '/v2/get_amqp_result_connection_url',
      summary: 'Returns the URL and queue prefix for consuming results over AMQP',
      query: resultConnectionQuerySchema,
      response: resultConnectionSchema,
      handle: async ({ identity, query }) => {
        const url = await brokerUsers.resultsUrl(identity.id, identity.token?.id);
        const prefix = { queue_prefix: groupQueuePrefix(identity.id) };
        if (query.client === 'funcx') {
          return { ...prefix, connection_url: url, ca: brokerAuthority, batch_queues: true };
        }
        return { ...prefix, connection_url: withAuthority(url, brokerAuthority) };
      },
    }),
  ];
}
