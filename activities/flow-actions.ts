import type { AcceptedSubmissions } from '../contracts/activities';
import type { FlowActivities } from '../contracts/flow-steps';
import { FuncXError } from '../contracts/errors';
import { FlowError } from '../flows';
import { readComputeBody } from '../flows/compute';
import type { Provider } from '../flows/providers';
import { FLOW_CODE } from '../contracts/flows';
import { readLine, inTransaction } from '../platform/store/flow-lines';
import { readRunIdentity, recordRun } from '../platform/store/flow-runs';
import { createCallAccepting, type AcceptingDeps } from './accept-calls';
import type { ActivityDeps } from './deps';
import { groupTasks } from './flow-groups';
import type { Pending } from './flow-pending';

/** Starts the actions of a run as the run's owner, and ends a run that was cancelled. */

export type FlowActionActivities = Pick<FlowActivities, 'acceptAction' | 'endCancelled'>;

const MAX_SENTENCE_CHARS = 2_000;

export function createFlowActionActivities(deps: ActivityDeps & AcceptingDeps): FlowActionActivities {
  const calls = createCallAccepting(deps);
  const { db } = deps;

  return {
    async acceptAction({ runId, line, position }) {
      const row = await readLine(db, runId, line);
      const pending = row?.pending as Pending | null | undefined;
      if (pending?.body === undefined) return { refused: 'the run left this action already' };
      const identity = await readRunIdentity(db, runId);
      if (!identity) return { refused: 'the owner of the run was revoked' };
      try {
        const { body, provider } = pending;
        const { tasks, resourceSpecification, userEndpointConfig } = readComputeBody(provider as Provider, body);
        const more = {
          ...(resourceSpecification ? { resourceSpecification } : {}),
          ...(userEndpointConfig ? { userEndpointConfig } : {}),
        };
        // All of them are checked before the first is stored.
        const prepared = await Promise.all(
          groupTasks(tasks).map((group) =>
            calls.prepare(identity, {
              function: group.function,
              endpoint: group.endpoint,
              calls: group.tasks,
              policy: {},
              result: 'auto',
              ...more,
            }),
          ),
        );
        const groups: AcceptedSubmissions[] = [];
        for (const [at, one] of prepared.entries())
          groups.push(await calls.accept(one, `flow/${runId}/${line}/${position}/${at}`.slice(-200)));
        return { groups };
      } catch (error) {
        if (error instanceof FlowError || (error instanceof FuncXError && error.retryAfterS === undefined)) {
          return { refused: error.message.slice(0, MAX_SENTENCE_CHARS) };
        }
        throw error;
      }
    },

    async endCancelled({ runId }) {
      await inTransaction(db, async (client) => {
        const { rows } = await client.query<{ status: string }>('select status from flow_runs where id = $1 for update', [runId]);
        // A run that ended while its cancellation was on the way has its end.
        if (rows[0]?.status !== 'ACTIVE' && rows[0]?.status !== 'INACTIVE') return;
        const time = new Date().toISOString();
        const description = 'This Flow Instance was canceled by the user';
        await recordRun(client, runId, {
          status: 'FAILED',
          completionTime: time,
          details: { code: FLOW_CODE.canceled, description, time, details: {} },
          entries: [{ time, code: FLOW_CODE.canceled, description, details: {} }],
        });
      });
    },
  };
}
