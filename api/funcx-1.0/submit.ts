import { FuncXError } from '../../contracts/errors';
import { submit1ResponseSchema, submit1Schema, type Submit1Response } from '../../contracts/http/funcx-1.0';
import type { ApiDeps } from '../deps';
import { ANSWERED, route, type Route } from '../route';
import { acceptList } from '../submit-list';
import { errorDocument } from './errors';
import { releaseOf } from './release';

const SOME_FAILED = 207;
/** The clients require a task ID in every entry, including entries of refused tasks. */
const NO_TASK = '00000000-0000-0000-0000-000000000000';

/** The submit route of funcX 1.0: a list of tasks, each accepted or refused on its own. */
export function submitRoutes(deps: ApiDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v2/submit',
      summary: 'Submits tasks; each is accepted or refused on its own',
      body: submit1Schema,
      bodySize: 'submit',
      response: submit1ResponseSchema,
      handle: async ({ identity, body, req, res }) => {
        const { taskGroupId, outcomes } = await acceptList(
          deps,
          { identity, req, res },
          {
            tasks: body.tasks,
            taskGroupId: body.task_group_id ?? undefined,
            // 1.0.4 sends the flag but reads the socket, so nobody would consume its queue.
            hasQueue: body.create_websocket_queue === true && releaseOf(req)?.readsSocket === false,
            isAllOrNone: false,
          },
        );
        const answer: Submit1Response = {
          response: 'batch',
          task_group_id: taskGroupId,
          results: outcomes.map((outcome) =>
            outcome instanceof FuncXError
              ? { ...errorDocument(outcome), task_uuid: NO_TASK }
              : { status: 'Success', task_uuid: outcome, http_status_code: 200 },
          ),
        };
        res.status(outcomes.some((outcome) => outcome instanceof FuncXError) ? SOME_FAILED : 200).json(answer);
        return ANSWERED;
      },
    }),
  ];
}
