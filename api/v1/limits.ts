import { limitListSchema } from '../../contracts/http/v1-identities';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

export function limitRoute({ quotas }: ApiDeps): Route {
  return route({
    method: 'get',
    path: '/v1/limits',
    summary: 'Lists how much of everything you may have, and how much you have',
    response: limitListSchema,
    handle: async ({ identity }) => ({ limits: await quotas.usage(identity.id) }),
  });
}
