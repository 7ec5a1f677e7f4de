import { allow1Schema } from '../../contracts/http/funcx-1.0';
import { changeAllowedFunctions, type EndpointRow } from '../../platform/store/endpoints';
import { requireEndpoint, unknownEndpoint } from '../checks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type RouteRequest, type Route } from '../route';

/** The functions to which an endpoint is restricted. An endpoint without a list runs every function. */

const PATH = '/v2/endpoints/:id/whitelist';

export function allowedFunctionRoutes({ db }: ApiDeps): Route[] {
  const own = (request: RouteRequest<unknown, unknown>): Promise<EndpointRow> =>
    requireEndpoint(db, request.identity, 'manage', idParameter(request, 'id', 'ENDPOINT_NOT_FOUND'));

  async function change(endpoint: EndpointRow, add: string[], remove: string[]): Promise<void> {
    if (!(await changeAllowedFunctions(db, endpoint.id, add, remove))) throw unknownEndpoint(endpoint.id);
  }

  return [
    route({
      method: 'get',
      path: PATH,
      summary: 'Lists the functions to which an endpoint is restricted',
      handle: async (request) => ({ status: 'Success', result: (await own(request)).allowedFunctions ?? [] }),
    }),
    route({
      method: 'post',
      path: PATH,
      summary: 'Adds functions to the list to which an endpoint is restricted',
      body: allow1Schema,
      handle: async (request) => {
        const endpoint = await own(request);
        await change(endpoint, request.body.func, []);
        return {
          status: 'Success',
          reason: `${request.body.func.length} functions were added to the allowed functions of endpoint ${endpoint.id}`,
        };
      },
    }),
    route({
      method: 'delete',
      path: `${PATH}/:function`,
      summary: 'Removes a function from the list; removing the last one ends the restriction',
      handle: async (request) => {
        const endpoint = await own(request);
        const functionId = idParameter(request, 'function', 'FUNCTION_NOT_FOUND');
        await change(endpoint, [], [functionId]);
        return { status: 'Success', result: functionId };
      },
    }),
  ];
}
