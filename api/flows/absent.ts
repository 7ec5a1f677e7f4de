import { z } from 'zod';

import { registeredApisSchema, webInputResponseSchema, webInputsSchema } from '../../contracts/http/flows';
import type { Route } from '../route';
import { requireFlowsToken } from './checks';
import { FlowsError } from './errors';
import { flowsRoute } from './flows-route';

/** Routes for kinds of objects that the service does not have. The clients list them nevertheless. */

const anyQuery = z.looseObject({ per_page: z.coerce.number().int().min(1).max(100).default(20) });

const none = (kind: string, id: string | undefined): never => {
  throw new FlowsError('NOT_FOUND', `The ${kind} ${(id ?? '').slice(0, 100)} does not exist: this service has no ${kind}s.`);
};

export const absentRoutes = (): Route[] => [
  flowsRoute({
    method: 'get',
    path: '/registered_apis',
    summary: 'Always empty: the service has no registered APIs',
    query: anyQuery,
    response: registeredApisSchema,
    handle: ({ identity, query }) => {
      requireFlowsToken(identity);
      return { registered_apis: [], limit: query.per_page, has_next_page: false };
    },
  }),
  flowsRoute({
    method: 'get',
    path: '/registered_apis/:id',
    summary: 'Always 404: the service has no registered APIs',
    handle: ({ params }) => none('registered API', params.id),
  }),
  flowsRoute({
    method: 'get',
    path: '/web_inputs',
    summary: 'Always empty: the service has no web inputs',
    response: webInputsSchema,
    handle: ({ identity }) => {
      requireFlowsToken(identity);
      return { web_input_summaries: [], marker: null };
    },
  }),
  flowsRoute({
    method: 'get',
    path: '/web_inputs/:id',
    summary: 'Always 404: the service has no web inputs',
    handle: ({ params }) => none('web input', params.id),
  }),
  flowsRoute({
    method: 'post',
    path: '/web_inputs/:id/respond',
    summary: 'Always 404: the service has no web inputs',
    body: webInputResponseSchema,
    handle: ({ params }) => none('web input', params.id),
  }),
];
