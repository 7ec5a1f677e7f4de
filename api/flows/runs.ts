import {
  runDefinitionSchema,
  runListQuerySchema,
  runListSchema,
  runLogQuerySchema,
  runLogSchema,
  runQuerySchema,
  runSchema,
  startRunSchema,
  updateRunSchema,
  validatedRunSchema,
} from '../../contracts/http/flows';
import { callerOf, flowRoleOf, mayManageFlow } from '../../platform/flow-access';
import { listRunLog, listRuns, RUN_ORDER, RUN_ROLES } from '../../platform/store/flow-run-lists';
import { noteCancelRequest, reopenRun } from '../../platform/store/flow-run-progress';
import { deleteRun, findRun, readRunDefinition, updateRun, type RunRow } from '../../platform/store/flow-runs';
import { findFlow } from '../../platform/store/flows';
import type { ApiDeps } from '../deps';
import type { Route } from '../route';
import { idOf, requireFlow, requireFlowsToken, requireRun, requireTokenOf } from './checks';
import { flowDescription, runDocument, timeOf, withoutPrivate } from './documents';
import { FlowsError } from './errors';
import { pageOf } from './flows';
import { flowsRoute } from './flows-route';
import { checkInput } from './input-schema';
import { readIds, readLogMarker, readOrder, readPeriod, readRoles } from './queries';
import { startRun } from './start-run';

/** Routes for runs. */
export function runRoutes(deps: ApiDeps): Route[] {
  const { db, flowStarts, quotas, log } = deps;

  /** The run after a change that is stored. If it cannot be read, the response shows `known`: an error would be repeated. */
  async function readChanged(known: RunRow): Promise<RunRow> {
    try {
      return (await findRun(db, known.id)) ?? known;
    } catch (error) {
      log.warn({ err: error, runId: known.id }, 'a run was changed, and could not be read afterwards');
      return known;
    }
  }

  return [
    flowsRoute({
      method: 'post',
      path: '/flows/:id/run',
      summary: 'Starts a run of the flow; it acts as you',
      body: startRunSchema,
      response: runSchema,
      status: 201,
      handle: async ({ identity, params, body, req, res }) => {
        const id = idOf(params, 'flow');
        requireTokenOf(id, identity);
        const { flow } = await requireFlow(db, identity, id, 'run');
        await checkInput(identity.id, flow.inputSchema, body.body);
        return runDocument(await startRun(deps, { identity, req, res }, flow, body), identity);
      },
    }),
    flowsRoute({
      method: 'post',
      path: '/flows/:id/validate_run',
      summary: 'Checks an input against the schema of the flow, and whether you may start it',
      body: startRunSchema,
      response: validatedRunSchema,
      handle: async ({ identity, params, body }) => {
        const id = idOf(params, 'flow');
        requireTokenOf(id, identity);
        const { flow } = await requireFlow(db, identity, id, 'run');
        await checkInput(identity.id, flow.inputSchema, body.body);
        return { message: 'validation successful' };
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/runs',
      summary: 'Runs that you may see, or those on which you have one of the roles',
      query: runListQuerySchema,
      response: runListSchema,
      handle: async ({ identity, query }) => {
        requireFlowsToken(identity);
        const order = readOrder(query.orderby, RUN_ORDER, { ...RUN_ORDER.start_time, descending: true });
        const filter = {
          roles: readRoles(query.filter_roles ?? query.filter_role, RUN_ROLES),
          flowIds: readIds(query.filter_flow_id, 'filter_flow_id'),
          statuses: query.filter_status?.length ? query.filter_status : undefined,
          label: query.filter_label,
          flowTitle: query.filter_flow_title,
          started: readPeriod(query.filter_start_time, 'filter_start_time'),
          completed: readPeriod(query.filter_completion_time, 'filter_completion_time'),
        };
        const page = { marker: query.marker, limit: query.per_page + 1 };
        const { shown, ...rest } = pageOf(await listRuns(db, callerOf(identity), filter, order, page), query.per_page);
        return { runs: shown.map((run) => runDocument(run, identity)), ...rest };
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/runs/:id',
      summary: 'A run with its status and, at its end, its output',
      query: runQuerySchema,
      response: runSchema,
      handle: async ({ identity, params, query }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'view');
        return {
          ...runDocument(run, identity),
          ...(query.include_flow_description ? { flow_description: flowDescription(run) } : {}),
        };
      },
    }),
    flowsRoute({
      method: 'put',
      path: '/runs/:id',
      summary: 'Changes label, tags, managers or monitors of a run',
      body: updateRunSchema,
      response: runSchema,
      handle: async ({ identity, params, body }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'manage');
        const changed = {
          label: body.label ?? run.label,
          tags: body.tags ?? run.tags,
          managers: body.run_managers ?? run.managers,
          monitors: body.run_monitors ?? run.monitors,
        };
        await updateRun(db, run.id, changed);
        return runDocument(await readChanged({ ...run, ...changed }), identity);
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/runs/:id/log',
      summary: 'Returns the log of a run, oldest first',
      query: runLogQuerySchema,
      response: runLogSchema,
      handle: async ({ identity, params, query }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'view');
        const { limit, reverse_order: reverse, marker } = query;
        const rows = await listRunLog(db, run.id, { after: readLogMarker(marker), limit: limit + 1, reverse });
        const shown = rows.slice(0, limit);
        const hasNext = rows.length > limit;
        return {
          entries: shown.map(({ seq: _seq, time, ...entry }) => ({ time: timeOf(new Date(time)), ...entry })),
          limit,
          has_next_page: hasNext,
          marker: hasNext ? String(shown.at(-1)?.seq) : null,
        };
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/runs/:id/definition',
      summary: 'Definition and input schema that the run started with',
      response: runDefinitionSchema,
      handle: async ({ identity, params }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'view');
        const { definition, inputSchema } = await readRunDefinition(db, run);
        const flow = await findFlow(db, run.flowId);
        const role = flow && flowRoleOf(identity, flow);
        const manages = role !== undefined && mayManageFlow(role);
        return { flow_id: run.flowId, definition: manages ? definition : withoutPrivate(definition), input_schema: inputSchema };
      },
    }),
    flowsRoute({
      method: 'post',
      path: '/runs/:id/cancel',
      summary: 'Cancels a run and everything that it is running',
      response: runSchema,
      status: 202,
      handle: async ({ identity, params }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'manage');
        // Record the request first: if the workflow does not run yet, or Temporal does not answer, the sweep cancels it.
        if (await noteCancelRequest(db, run.id)) {
          await flowStarts.cancel(run.id).catch((error: unknown) => {
            log.warn({ err: error, runId: run.id }, 'a flow run could not be cancelled; the sweep cancels it');
          });
        }
        return runDocument(await readChanged(run), identity);
      },
    }),
    flowsRoute({
      method: 'post',
      path: '/runs/:id/resume',
      summary: 'Resumes a run from the state that failed',
      response: runSchema,
      handle: async ({ identity, params }) => {
        const run = await requireRun(db, identity, idOf(params, 'run'), 'manage');
        requireTokenOf(run.flowId, identity);
        await quotas.requireRoomForRun(run.ownerId);
        const generation = await reopenRun(db, run.id);
        if (generation === undefined)
          throw wrongStatus(run.id, (await findRun(db, run.id))?.status ?? run.status, ['FAILED', 'INACTIVE']);
        const { id: runId, flowId, ownerId, flow } = run;
        await flowStarts.start({ runId, flowId, title: flow.title, ownerId, generation });
        return runDocument(await readChanged({ ...run, status: 'ACTIVE', generation, completedAt: null }), identity);
      },
    }),
    flowsRoute({
      method: 'post',
      path: '/runs/:id/release',
      summary: 'Deletes the record of a run that has ended',
      response: runSchema,
      handle: async ({ identity, params }) => {
        requireFlowsToken(identity);
        const run = await requireRun(db, identity, idOf(params, 'run'), 'manage');
        if (!(await deleteRun(db, run.id))) throw wrongStatus(run.id, run.status, ['SUCCEEDED', 'FAILED']);
        return runDocument(run, identity);
      },
    }),
  ];
}

const wrongStatus = (id: string, status: string, wanted: string[]): FlowsError =>
  new FlowsError(
    'STATE_CONFLICT',
    `Run ${id} has status '${status}' but must have status in ${wanted.join(', ')} for this operation.`,
  );
