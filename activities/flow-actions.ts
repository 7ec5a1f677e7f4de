import type { AcceptedSubmissions } from '../contracts/activities';
import type { FlowActivities } from '../contracts/flow-steps';
import { FuncXError } from '../contracts/errors';
import { FlowError } from '../flows';
import { readComputeBody } from '../flows/compute';
import type { Provider } from '../flows/providers';
import { FLOW_CODE } from '../contracts/flows';
import { readLine } from '../platform/store/flow-lines';
import { readRunIdentity } from '../platform/store/flow-run-inputs';
import { endOpenRun } from '../platform/store/flow-run-progress';
import { createCallAccepting, type AcceptingDeps } from './accept-calls';
import type { ActivityDeps } from './deps';
import { requestKeyOf } from './derived-id';
import { groupTasks } from './flow-groups';
import type { Pending } from './flow-pending';

/** Starts the actions of a run as the run's owner, and ends a run that was cancelled. */

export type FlowActionActivities = Pick<FlowActivities, 'acceptAction' | 'endCancelled'>;

const MAX_REFUSAL_CHARS = 2_000;

export function createFlowActionActivities(deps: ActivityDeps & AcceptingDeps): FlowActionActivities {
  const calls = createCallAccepting(deps);
  const { db } = deps;

  return {
    async acceptAction({ runId, line, position }) {
      const row = await readLine(db, runId, line);
      const pending = row?.pending as Pending | null | undefined;
      if (pending?.body === undefined) return { refused: 'the run left this action already' };
      const identity = await readRunIdentity(db, runId);
      if (!identity) return { refused: 'the identity of the owner of this run was revoked' };
      try {
        const { body, provider } = pending;
        const { tasks, resourceSpecification, userEndpointConfig } = readComputeBody(provider as Provider, body);
        // Check all groups before the first one is stored.
        const prepared = await Promise.all(
          groupTasks(tasks).map((group) =>
            calls.prepare(identity, {
              function: group.function,
              endpoint: group.endpoint,
              calls: group.tasks,
              policy: {},
              result: 'auto',
              resourceSpecification,
              userEndpointConfig,
            }),
          ),
        );
        const groups: AcceptedSubmissions[] = [];
        for (const [index, group] of prepared.entries())
          groups.push(await calls.accept(group, requestKeyOf(`flow/${runId}`, `${line}/${position}/${index}`)));
        return { groups };
      } catch (error) {
        // Other errors are temporary, so the activity is retried.
        if (error instanceof FlowError || (error instanceof FuncXError && error.retryAfterS === undefined)) {
          return { refused: error.message.slice(0, MAX_REFUSAL_CHARS) };
        }
        throw error;
      }
    },

    async endCancelled({ runId, generation }) {
      // The text of Globus Flows.
      const description = 'This Flow Instance was canceled by the user';
      // A run that ended before its cancellation arrived keeps its end.
      await endOpenRun(db, { runId, generation }, { code: FLOW_CODE.canceled, description, details: { details: {} } });
    },
  };
}
