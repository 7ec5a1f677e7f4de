import { TerminalError } from '../../contracts/errors';
import { cancelledSchema, submissionListSchema, submissionSchema, submissionsQuerySchema } from '../../contracts/http/v1';
import { submissionUrlOf } from '../../contracts/submission';
import type { Identity } from '../../platform/access';
import { countTaskStates, findSubmission, listSubmissions, type SubmissionRow } from '../../platform/store/tasks';
import type { ApiDeps } from '../deps';
import { idParameter, route, type Route } from '../route';

/** Submission routes. Each document links to the workflow in the Temporal UI. */

export function submissionRoutes({ db, config, cancel }: ApiDeps): Route[] {
  async function requireSubmission(identity: Identity, id: string): Promise<SubmissionRow> {
    const row = await findSubmission(db, identity.id, id);
    if (!row)
      throw new TerminalError('SUBMISSION_NOT_FOUND', `you have no submission ${id}; check the ID and the identity that you use`);
    return row;
  }

  const document = (row: SubmissionRow): Record<string, unknown> => ({
    submission_id: row.id,
    endpoint_id: row.endpointId,
    endpoint_name: row.endpointName,
    task_group_id: row.taskGroupId,
    function_name: row.functionName,
    state: row.state,
    total: row.total,
    open: row.open,
    policy: row.policy,
    deadline: row.deadline.toISOString(),
    created_at: row.createdAt.toISOString(),
    finished_at: row.finishedAt?.toISOString() ?? null,
    temporal_url: submissionUrlOf(config.TEMPORAL_UI_URL, config.TEMPORAL_NAMESPACE, row.id),
  });

  return [
    route({
      method: 'get',
      path: '/v1/submissions',
      summary: 'Lists your submissions, newest first',
      query: submissionsQuerySchema,
      response: submissionListSchema,
      handle: async ({ identity, query }) => {
        const rows = await listSubmissions(db, identity.id, {
          limit: query.limit,
          ...(query.endpoint === undefined ? {} : { endpointId: query.endpoint }),
          ...(query.state === undefined ? {} : { state: query.state }),
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
        const row = await requireSubmission(request.identity, idParameter(request, 'id', 'SUBMISSION_NOT_FOUND'));
        return { ...document(row), counts: await countTaskStates(db, row.id) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/submissions/:id/cancel',
      summary: 'Cancels the open tasks of a submission',
      response: cancelledSchema,
      errors: ['SUBMISSION_NOT_FOUND'],
      handle: async (request) => {
        const row = await requireSubmission(request.identity, idParameter(request, 'id', 'SUBMISSION_NOT_FOUND'));
        return cancel({ submissionId: row.id });
      },
    }),
  ];
}
