import type { z } from 'zod';

import { TerminalError } from '../../contracts/errors';
import {
  cancelledSchema,
  retryResponseSchema,
  retrySchema,
  submissionListSchema,
  submissionSchema,
  submissionsQuerySchema,
  taskListSchema,
  tasksQuerySchema,
} from '../../contracts/http/v1';
import { idsOfPrefix } from '../../contracts/ids';
import { detailsUrlOf, workflowUrlOf } from '../../contracts/submission';
import { countTaskStates, listSubmissions, type SubmissionRow } from '../../platform/store/submission-list';
import type { ApiDeps } from '../deps';
import { retryTasks } from '../retry';
import { idParameter, route, type Route } from '../route';
import { listTaskPage } from '../task-list';
import { requireSubmission } from '../task-lookup';

/** Submission routes. Each document links to the workflow in the Temporal UI. Administrators see and cancel all submissions. */

export function submissionRoutes(deps: ApiDeps): Route[] {
  const { db, config, cancel } = deps;

  const document = (row: SubmissionRow): z.input<typeof submissionListSchema>['submissions'][number] => ({
    submission_id: row.id,
    endpoint_id: row.endpointId,
    endpoint_name: row.endpointName,
    task_group_id: row.taskGroupId,
    function_name: row.functionName,
    state: row.state,
    total: row.total,
    open: row.open,
    failed: row.failed,
    cancelled: row.cancelled,
    expired: row.expired,
    policy: row.policy,
    deadline: row.deadline.toISOString(),
    created_at: row.createdAt.toISOString(),
    finished_at: row.finishedAt?.toISOString() ?? null,
    owner_id: row.ownerId,
    owner_name: row.ownerName,
    workflow_id: row.workflowId,
    temporal_url: workflowUrlOf(config.TEMPORAL_UI_URL, config.TEMPORAL_NAMESPACE, row.workflowId),
  });

  return [
    route({
      method: 'get',
      path: '/v1/submissions',
      summary: 'Lists your submissions, newest first; administrators may list those of everybody',
      query: submissionsQuerySchema,
      response: submissionListSchema,
      errors: ['FORBIDDEN'],
      handle: async ({ identity, query }) => {
        if (query.all && !identity.isAdmin)
          throw new TerminalError('FORBIDDEN', 'only administrators see the submissions of others; leave out "all"');
        const rows = await listSubmissions(db, {
          limit: query.limit,
          isFailed: query.failed,
          isOpen: query.open,
          ...(query.all ? {} : { ownerId: identity.id }),
          endpointId: query.endpoint,
          taskGroupId: query.group,
          state: query.state,
          ...(query.prefix === undefined ? {} : { ids: idsOfPrefix(query.prefix) }),
        });
        return { submissions: rows.map(document) };
      },
    }),
    route({
      method: 'get',
      path: '/v1/submissions/:id',
      summary: 'Returns a submission with its task counts by state',
      response: submissionSchema,
      errors: ['SUBMISSION_NOT_FOUND'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'SUBMISSION_NOT_FOUND');
        const row = await requireSubmission(db, request.identity, id, 'view');
        const [counts, runId] = await Promise.all([countTaskStates(db, row.id), deps.latestRunOf(row.workflowId)]);
        const shown = document(row);
        const url = runId === undefined ? {} : { temporal_url: detailsUrlOf(shown.temporal_url, runId) };
        return { ...shown, ...url, counts };
      },
    }),
    route({
      method: 'get',
      path: '/v1/submissions/:id/tasks',
      summary: 'Lists the tasks of a submission in the order of their IDs, page by page',
      query: tasksQuerySchema,
      response: taskListSchema,
      errors: ['SUBMISSION_NOT_FOUND'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'SUBMISSION_NOT_FOUND');
        const row = await requireSubmission(db, request.identity, id, 'view');
        return listTaskPage(db, request.identity, { submissionId: row.id }, request.query);
      },
    }),
    route({
      method: 'post',
      path: '/v1/submissions/:id/retry',
      summary: 'Submits the failed tasks of a submission again, as a new submission',
      body: retrySchema,
      response: retryResponseSchema,
      errors: ['SUBMISSION_NOT_FOUND', 'ENDPOINT_NOT_FOUND', 'FUNCTION_NOT_FOUND', 'FORBIDDEN', 'EXPIRED', 'LIMIT_EXCEEDED'],
      handle: async (request) => {
        const row = await requireSubmission(db, request.identity, idParameter(request, 'id', 'SUBMISSION_NOT_FOUND'));
        return retryTasks(deps, request, [row.id], request.body.states);
      },
    }),
    route({
      method: 'post',
      path: '/v1/submissions/:id/cancel',
      summary: 'Cancels the open tasks of a submission',
      response: cancelledSchema,
      errors: ['SUBMISSION_NOT_FOUND'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'SUBMISSION_NOT_FOUND');
        const row = await requireSubmission(db, request.identity, id, 'manage');
        return cancel({ submissionId: row.id });
      },
    }),
  ];
}
