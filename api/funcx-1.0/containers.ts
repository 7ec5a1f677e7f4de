import { TerminalError } from '../../contracts/errors';
import { container1Schema } from '../../contracts/http/funcx-1.0';
import { NO_CONTAINERS, unknownContainer } from '../checks';
import { route, type Route } from '../route';

/** funcX 1.0 clients can register containers. The service has none and says so, instead of returning an ID without effect. */

const refuse = (): never => {
  throw new TerminalError('INVALID_REQUEST', NO_CONTAINERS);
};

export function containerRoutes(): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/containers',
      summary: 'Always refused: the service has no containers',
      body: container1Schema,
      handle: refuse,
    }),
    route({
      method: 'post',
      path: '/v2/get_containers',
      summary: 'Always refused: the service has no containers',
      handle: refuse,
    }),
    route({
      method: 'get',
      path: '/v2/containers/:id/:type',
      summary: 'Always not found: the service has no containers',
      handle: ({ params }) => {
        throw unknownContainer(params.id ?? '');
      },
    }),
  ];
}
