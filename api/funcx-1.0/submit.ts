import { setTimeout as sleep } from 'node:timers/promises';

import { FuncXError } from '../../contracts/errors';
import { submit1ResponseSchema, submit1Schema, type Submit1Response } from '../../contracts/http/funcx-1.0';
import type { ApiDeps } from '../deps';
import { ANSWERED, route, type Route } from '../route';
import { acceptList } from '../submit-list';
import { SHORTEST_SUBMIT_MS } from './client-timing';
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
        const readsSocket = releaseOf(req)?.readsSocket === true;
        const earliest = readsSocket ? sleep(SHORTEST_SUBMIT_MS) : undefined;
        const { taskGroupId, outcomes } = await acceptList(
          deps,
          { identity, req, res },
          {
            tasks: body.tasks,
            taskGroupId: body.task_group_id ?? undefined,
            // 1.0.4 sends the flag but reads the socket, so nobody would consume its queue.
            hasQueue: body.create_websocket_queue === true && !readsSocket,
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
        await earliest;
        res.status(outcomes.some((outcome) => outcome instanceof FuncXError) ? SOME_FAILED : 200).json(answer);
        return ANSWERED;
      },
    }),
  ];
}
