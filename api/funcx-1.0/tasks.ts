import { batchStatusSchema } from '../../contracts/http/globus';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** The states of many tasks. Unlike for later clients, every requested ID has an entry. */
export function taskRoutes({ taskBatches }: ApiDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/batch_status',
      summary: 'Returns the states of many tasks, with an error for each unknown ID',
      body: batchStatusSchema,
      bodySize: 'large' as const,
      handle: ({ identity, body, res }) =>
        taskBatches({
          ownerId: identity.id,
          taskIds: body.task_ids,
          res,
          unknown: (id) => ({ task_id: id, status: 'Failed', reason: 'Unknown task id' }),
        }),
    }),
  ];
}
