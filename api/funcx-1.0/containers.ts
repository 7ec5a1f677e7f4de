import { TerminalError } from '../../contracts/errors';
import { container1Schema } from '../../contracts/http/funcx-1.0';
import { NO_CONTAINERS, unknownContainer } from '../checks';
import { route, type Route } from '../route';

/**
 * The clients can register a container for a function to run in. There are none here: what a function needs is installed
 * where its endpoint runs. Saying so is better than an id that means nothing.
 */

const refuse = (): never => {
  throw new TerminalError('INVALID_REQUEST', NO_CONTAINERS);
};

export function containerRoutes(): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/containers',
      summary: 'Refused: there are no containers',
      body: container1Schema,
      handle: refuse,
    }),
    route({ method: 'post', path: '/v2/get_containers', summary: 'Refused: there are no containers', handle: refuse }),
    route({
      method: 'get',
      path: '/v2/containers/:id/:type',
      summary: 'Not found: there are no containers',
      handle: ({ params }) => {
        throw unknownContainer(params.id ?? '');
      },
    }),
  ];
}
