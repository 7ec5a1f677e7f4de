import { batchStatusSchema } from '../../contracts/http/globus';
import { findTasks } from '../../platform/store/tasks';
import type { ApiDeps } from '../deps';
import { taskDocument } from '../results';
import { route, type Route } from '../route';

/** The states of many tasks. Unlike for later clients, every requested ID has an entry. */
export function taskRoutes({ db }: ApiDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/batch_status',
      summary: 'Returns the states of many tasks, with an error for each unknown ID',
      body: batchStatusSchema,
      bodySize: 'large' as const,
      handle: async ({ identity, body }) => {
        const known = new Map((await findTasks(db, identity.id, body.task_ids)).map((row) => [row.id, taskDocument(row)]));
        const unknown = (id: string): object => ({ task_id: id, status: 'Failed', reason: 'Unknown task id' });
        return { response: 'batch', results: Object.fromEntries(body.task_ids.map((id) => [id, known.get(id) ?? unknown(id)])) };
      },
    }),
  ];
}
