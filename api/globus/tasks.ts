import {
  batchStatusResponseSchema,
  batchStatusSchema,
  taskDocumentSchema,
  taskGroupQuerySchema,
  taskGroupSchema,
} from '../../contracts/http/globus';
import type { ResultQueue } from '../../platform/store/result-queue';
import { addResultQueue, listGroupTaskIds, type TaskGroupRow } from '../../platform/store/tasks';
import type { ApiDeps } from '../deps';
import { taskDocument } from '../results';
import { requireTask, requireTaskGroup } from '../task-lookup';
import { idParameter, route, type Route } from '../route';

/** Task routes for Globus Compute clients. */

export function taskRoutes({ db, log, config, taskBatches, groupQueues }: ApiDeps): Route[] {
  /**
   * Gives the group the queue that its reader will read. Call it before the answers are read from the store, so that every answer
   * is in the store or will be in the queue.
   */
  async function followGroup({ id, ownerId, hasQueue, hasBatchQueue }: TaskGroupRow, queue: ResultQueue): Promise<void> {
    const isPublished = hasQueue || hasBatchQueue;
    // A group that publishes nothing is read from the store.
    if (queue === 'none' || !isPublished || (queue === 'single' && hasQueue)) return;
    try {
      // A queue that nobody read for long has expired. Our client would take its absence for a group without this kind of queue.
      await groupQueues.ensure(ownerId, id, queue);
    } catch (error) {
      // A stock client needs its queue. Our client reads the store while the broker is unavailable.
      if (queue === 'single') throw error;
      log.warn({ err: error, groupId: id }, 'could not declare the batch queue of a task group; its client reads the store');
      return;
    }
    if (queue === 'single' || !hasBatchQueue) await addResultQueue(db, id, queue);
  }

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
      query: taskGroupQuerySchema,
      response: taskGroupSchema,
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'GROUP_NOT_FOUND');
        await followGroup(await requireTaskGroup(db, request.identity, id), request.query.queue);
        return { taskgroup_id: id, tasks: (await listGroupTaskIds(db, id)).map((taskId) => ({ id: taskId })) };
      },
    }),
  ];
}
