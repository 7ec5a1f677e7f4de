import { batchStatusResponseSchema, batchStatusSchema, taskDocumentSchema, taskGroupSchema } from '../../contracts/http/globus';
import { listGroupTaskIds } from '../../platform/store/tasks';
import type { ApiDeps } from '../deps';
import { taskDocument } from '../results';
import { requireTask, requireTaskGroup } from '../task-lookup';
import { idParameter, route, type Route } from '../route';

/** Task routes for Globus Compute clients. */

export function taskRoutes({ db, config, taskBatches }: ApiDeps): Route[] {
  return [
    route({
      method: 'get',
      path: '/v2/tasks/:id',
      summary: 'Returns the state of a task, with its result or exception',
      response: taskDocumentSchema,
      errors: ['TASK_NOT_FOUND', 'EXPIRED'],
      handle: async (request) =>
        taskDocument(await requireTask(db, config, request.identity, idParameter(request, 'id', 'TASK_NOT_FOUND'))),
    }),
    route({
      method: 'post',
      path: '/v2/batch_status',
      summary: 'Returns the states of many tasks; omits unknown IDs',
      body: batchStatusSchema,
      bodySize: 'large' as const,
      response: batchStatusResponseSchema,
      handle: ({ identity, body, res }) => taskBatches({ ownerId: identity.id, taskIds: body.task_ids, res }),
    }),
    route({
      method: 'get',
      path: '/v2/taskgroup/:id',
      summary: 'Lists the IDs of the tasks of a group',
      response: taskGroupSchema,
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'GROUP_NOT_FOUND');
        await requireTaskGroup(db, request.identity, id);
        return { taskgroup_id: id, tasks: (await listGroupTaskIds(db, id)).map((taskId) => ({ id: taskId })) };
      },
    }),
  ];
}
