import { randomUUID } from 'node:crypto';

import {
  createFlowSchema,
  deletedFlowSchema,
  flowListQuerySchema,
  flowListSchema,
  flowSchema,
  IDENTITY_URN,
  updateFlowSchema,
  validatedFlowSchema,
  validateFlowSchema,
  type UpdateFlow,
} from '../../contracts/http/flows';
import type { FlowAnalysis } from '../../contracts/flows';
import { validateDefinition } from '../../flows';
import { callerOf } from '../../platform/flow-access';
import {
  deleteFlow,
  FLOW_ORDER,
  FLOW_ROLES,
  findFlow,
  insertFlow,
  listFlows,
  updateFlow,
  type FlowRow,
} from '../../platform/store/flows';
import { markerOf } from '../../platform/store/pages';
import type { ApiDeps } from '../deps';
import { bodyHashOf } from '../middleware/read-body';
import type { Route } from '../route';
import { findMadeEarlier } from '../same-id';
import { idOf, requireFlow, requireFlowsToken } from './checks';
import { flowDocument, timeOf } from './documents';
import { FlowsError, invalid, type FlowsErrorDetail } from './errors';
import { schemaProblems } from './input-schema';
import { readOrder, readRoles } from './queries';
import { flowsRoute } from './flows-route';

/** Routes for flows: create, list, validate, read, change and delete. */
export function flowRoutes({ db, config, repeats }: ApiDeps): Route[] {
  const baseUrl = config.API_PUBLIC_URL.replace(/\/$/, '');

  /** Throws an error with every mistake; returns the analysis of a valid definition. */
  async function check(ownerId: string, definition: unknown, inputSchema: unknown): Promise<FlowAnalysis> {
    const analysis = validateDefinition(definition, { allowedUrls: config.FUNCX_FLOWS_HTTP_ALLOW });
    const problems = analysis.problems.map(({ loc, ...rest }) => ({ ...rest, loc: ['definition', ...loc] }));
    const others: FlowsErrorDetail[] = inputSchema === undefined ? [] : await schemaProblems(ownerId, inputSchema);
    const wrong = [...problems.filter(({ code }) => code === undefined), ...others];
    const strip = ({ loc, msg, type }: FlowsErrorDetail): FlowsErrorDetail => ({ loc, msg, type });
    if (wrong.length > 0) throw invalid([...problems, ...others].map(strip));
    if (problems.length > 0) throw invalid(problems.map(strip), 'SCOPE_RESOLUTION_FAILED');
    return analysis;
  }

  return [
    flowsRoute({
      method: 'post',
      path: '/flows',
      summary: 'Creates a flow from a definition and an input schema',
      body: createFlowSchema,
      response: flowSchema,
      status: 201,
      handle: async ({ identity, body, req, res }) => {
        requireFlowsToken(identity);
        await check(identity.id, body.definition, body.input_schema);
        const find = ({ id }: { id: string }): Promise<FlowRow | undefined> => findFlow(db, id);
        const earlier = await findMadeEarlier({ repeats }, { identity, req, res }, find);
        if (earlier) return flowDocument(earlier, identity, baseUrl);
        const id = randomUUID();
        const bodyHash = bodyHashOf(req);
        const entry = bodyHash && repeats.entry(bodyHash);
        const request = { ownerId: identity.id, endpointId: id, response: { id } };
        const row = {
          ...EMPTY,
          id,
          ownerId: identity.id,
          ...fieldsOf(body),
          title: body.title,
          definition: body.definition,
          inputSchema: body.input_schema,
        };
        const flow = await repeats.store(entry, request, () => insertFlow(db, row, entry && { ...entry, ...request }));
        if (entry) await repeats.beforeAnswer(res, entry, request);
        return flowDocument(flow, identity, baseUrl);
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/flows',
      summary: 'Flows that you may see, or those on which you have one of the roles',
      query: flowListQuerySchema,
      response: flowListSchema,
      handle: async ({ identity, query }) => {
        requireFlowsToken(identity);
        const order = readOrder(query.orderby, FLOW_ORDER, { ...FLOW_ORDER.updated_at, descending: true });
        const filter = {
          roles: readRoles(query.filter_roles ?? query.filter_role, FLOW_ROLES),
          text: query.filter_fulltext,
          title: query.filter_title,
          subtitle: query.filter_subtitle,
          description: query.filter_description,
          keywords: query.filter_keywords,
          scopeString: query.filter_scope_string,
        };
        const page = { marker: query.marker, limit: query.per_page + 1 };
        const rows = await listFlows(db, callerOf(identity), filter, order, page);
        const { shown, ...rest } = pageOf(rows, query.per_page);
        return { flows: shown.map((flow) => flowDocument(flow, identity, baseUrl)), ...rest };
      },
    }),
    flowsRoute({
      method: 'post',
      path: '/flows/validate',
      summary: 'Checks a definition and an input schema, and returns the scopes that the definition needs',
      body: validateFlowSchema,
      response: validatedFlowSchema,
      handle: async ({ identity, body }) => {
        requireFlowsToken(identity);
        const { scopes, notPortable } = await check(identity.id, body.definition, body.input_schema ?? undefined);
        return { scopes, analysis: { not_portable: notPortable } };
      },
    }),
    flowsRoute({
      method: 'get',
      path: '/flows/:id',
      summary: 'A flow with its current definition',
      response: flowSchema,
      handle: async ({ identity, params }) => {
        requireFlowsToken(identity);
        const { flow } = await requireFlow(db, identity, idOf(params, 'flow'), 'view');
        return flowDocument(flow, identity, baseUrl);
      },
    }),
    flowsRoute({
      method: 'put',
      path: '/flows/:id',
      summary: 'Changes a flow; absent fields keep their values, and runs keep the definition that they started with',
      body: updateFlowSchema,
      response: flowSchema,
      handle: async ({ identity, params, body }) => {
        requireFlowsToken(identity);
        const { flow } = await requireFlow(db, identity, idOf(params, 'flow'), 'manage');
        const isNewVersion = body.definition !== undefined || body.input_schema !== undefined;
        const next: FlowRow = { ...flow, ...fieldsOf(body), ownerId: newOwner(flow, identity.id, body.flow_owner) };
        next.definition = body.definition ?? flow.definition;
        next.inputSchema = body.input_schema ?? flow.inputSchema;
        if (isNewVersion) await check(identity.id, next.definition, next.inputSchema);
        const changed = await updateFlow(db, next, isNewVersion);
        if (!changed) throw new FlowsError('NOT_FOUND', `The flow ${flow.id} was deleted meanwhile.`);
        return flowDocument(changed, identity, baseUrl);
      },
    }),
    flowsRoute({
      method: 'delete',
      path: '/flows/:id',
      summary: 'Deletes a flow; its runs continue and are kept',
      response: deletedFlowSchema,
      handle: async ({ identity, params }) => {
        requireFlowsToken(identity);
        const { flow } = await requireFlow(db, identity, idOf(params, 'flow'), 'manage');
        const deletedAt = await deleteFlow(db, flow.id);
        return { ...flowDocument(flow, identity, baseUrl), DELETED: true, deleted_at: timeOf(deletedAt ?? new Date()) };
      },
    }),
  ];
}

const EMPTY = {
  subtitle: '',
  description: '',
  keywords: [],
  viewers: [],
  starters: [],
  administrators: [],
  runManagers: [],
  runMonitors: [],
  subscriptionId: null,
};

/** The given fields of the body, under the names of the store. */
function fieldsOf(body: UpdateFlow): Partial<FlowRow> {
  const given: Partial<FlowRow> = {
    title: body.title,
    subtitle: body.subtitle ?? undefined,
    description: body.description ?? undefined,
    keywords: body.keywords,
    viewers: body.flow_viewers,
    starters: body.flow_starters,
    administrators: body.flow_administrators,
    runManagers: body.run_managers,
    runMonitors: body.run_monitors,
    subscriptionId: body.subscription_id,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** An identity that may change a flow can take the flow over, but cannot make anybody else its owner. */
function newOwner(flow: FlowRow, callerId: string, wanted: string | undefined): string {
  const id = wanted?.slice(IDENTITY_URN.length);
  if (id === undefined || id === flow.ownerId || id === callerId) return id ?? flow.ownerId;
  throw new FlowsError('FORBIDDEN', 'You can make yourself the owner of the flow, but nobody else. Ask the new owner to do it.');
}

/** `rows` has one row more than the page if there is another page. */
export function pageOf<Row extends { pageKey: string[] }>(
  rows: readonly Row[],
  limit: number,
): { shown: readonly Row[]; limit: number; has_next_page: boolean; marker: string | null } {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const hasNext = rows.length > limit;
  return { shown, limit, has_next_page: hasNext, marker: hasNext && last ? markerOf(last.pageKey) : null };
}
