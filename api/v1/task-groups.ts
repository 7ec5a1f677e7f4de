import { once } from 'node:events';

import type { Response } from 'express';

import {
  cancelledSchema,
  groupEventsQuerySchema,
  groupResultSchema,
  groupResultsQuerySchema,
  groupResultsSchema,
  retryResponseSchema,
  retrySchema,
  taskListSchema,
  tasksQuerySchema,
} from '../../contracts/http/v1';
import type { Identity } from '../../platform/access';
import { listGroupSubmissionIds } from '../../platform/store/task-list';
import { listGroupResults } from '../../platform/store/tasks';
import type { ApiDeps } from '../deps';
import { groupResult } from '../results';
import { retryTasks } from '../retry';
import { ANSWERED, idParameter, route, type Route } from '../route';
import { listTaskPage } from '../task-list';
import { requireTaskGroup } from '../task-lookup';
import { untilClosed } from '../until-closed';

/** Results of a task group, in the order of their sequence numbers, by long poll or as server-sent events. */

const KEEP_ALIVE_MS = 15_000;
const EVENTS_PAGE = 200;

export function taskGroupRoutes(deps: ApiDeps): Route[] {
  const { db, cancel, groupWatch, stopping, revocations } = deps;
  return [
    route({
      method: 'get',
      path: '/v1/taskgroups/:id/results',
      summary: 'Lists results after a cursor; with wait_s, waits for the next result',
      query: groupResultsQuerySchema,
      response: groupResultsSchema,
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const { after, limit, wait_s } = request.query;
        const group = await requireTaskGroup(db, request.identity, idParameter(request, 'id', 'GROUP_NOT_FOUND'));
        if (group.lastSeq <= after) {
          const closed = untilClosed(request.res, stopping, (end) => revocations.watch(request.identity, end));
          await groupWatch.waitFor(group.id, after, wait_s * 1000, closed.signal);
          closed.release();
        }
        const rows = await listGroupResults(db, group.id, after, limit);
        return { results: rows.map(groupResult), next: rows.at(-1)?.seq ?? after };
      },
    }),
    route({
      method: 'get',
      path: '/v1/taskgroups/:id/events',
      summary: 'Streams results as server-sent events; Last-Event-ID is the cursor',
      query: groupEventsQuerySchema,
      response: groupResultSchema,
      contentType: 'text/event-stream',
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const group = await requireTaskGroup(db, request.identity, idParameter(request, 'id', 'GROUP_NOT_FOUND'));
        const last = Number(request.req.headers['last-event-id'] ?? request.query.after ?? 0);
        await streamEvents(deps, request.identity, request.res, group.id, Number.isSafeInteger(last) && last > 0 ? last : 0);
        return ANSWERED;
      },
    }),
    route({
      method: 'get',
      path: '/v1/taskgroups/:id/tasks',
      summary: 'Lists the tasks of a group in the order of their IDs, page by page',
      query: tasksQuerySchema,
      response: taskListSchema,
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const group = await requireTaskGroup(db, request.identity, idParameter(request, 'id', 'GROUP_NOT_FOUND'), 'view');
        return listTaskPage(db, request.identity, { taskGroupId: group.id }, request.query);
      },
    }),
    route({
      method: 'post',
      path: '/v1/taskgroups/:id/retry',
      summary: 'Submits the failed tasks of a group again, as new submissions in a new group',
      body: retrySchema,
      response: retryResponseSchema,
      errors: ['GROUP_NOT_FOUND', 'ENDPOINT_NOT_FOUND', 'FUNCTION_NOT_FOUND', 'FORBIDDEN', 'EXPIRED', 'LIMIT_EXCEEDED'],
      handle: async (request) => {
        const group = await requireTaskGroup(db, request.identity, idParameter(request, 'id', 'GROUP_NOT_FOUND'));
        return retryTasks(deps, request, await listGroupSubmissionIds(db, group.id), request.body.states);
      },
    }),
    route({
      method: 'post',
      path: '/v1/taskgroups/:id/cancel',
      summary: 'Cancels the open tasks of a group',
      response: cancelledSchema,
      errors: ['GROUP_NOT_FOUND'],
      handle: async (request) => {
        const group = await requireTaskGroup(db, request.identity, idParameter(request, 'id', 'GROUP_NOT_FOUND'), 'manage');
        return cancel({ taskGroupId: group.id });
      },
    }),
  ];
}

async function streamEvents(
  { db, groupWatch, stopping, revocations }: ApiDeps,
  identity: Identity,
  res: Response,
  groupId: string,
  after: number,
): Promise<void> {
  const closed = untilClosed(res, stopping, (end) => revocations.watch(identity, end));
  const { signal } = closed;
  res.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no', // Proxies must not buffer events.
  });
  res.write('retry: 1000\n\n');
  let cursor = after;
  while (!signal.aborted) {
    const rows = await listGroupResults(db, groupId, cursor, EVENTS_PAGE);
    for (const row of rows) {
      if (signal.aborted) break;
      const isBuffered = res.write(`id: ${row.seq}\nevent: result\ndata: ${JSON.stringify(groupResult(row))}\n\n`);
      cursor = row.seq;
      // Do not buffer results for a slow reader. If the stream ends meanwhile, this rejects and the loop ends as well.
      if (!isBuffered) await once(res, 'drain', { signal }).catch(() => undefined);
    }
    if (rows.length > 0) continue;
    const hasNews = await groupWatch.waitFor(groupId, cursor, KEEP_ALIVE_MS, signal);
    if (!hasNews && !signal.aborted) res.write(': keep-alive\n\n');
  }
  closed.release();
  res.end();
}
