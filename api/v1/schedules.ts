import { randomUUID } from 'node:crypto';

import { TerminalError } from '../../contracts/errors';
import {
  backfillSchema,
  createScheduleSchema,
  doneSchema,
  pauseScheduleSchema,
  scheduleListSchema,
  scheduleSchema,
  scheduleTimesSchema,
  type CreateSchedule,
  type ScheduleDocument,
} from '../../contracts/http/schedules';
import type { Identity } from '../../platform/access';
import type { ScheduleState } from '../../platform/schedules';
import { deleteFlow, insertFlow } from '../../platform/store/flows';
import {
  deleteSchedule,
  findSchedule,
  insertSchedule,
  isDeletedSchedule,
  listSchedules,
  removeRefusedSchedule,
  type ScheduleRow,
} from '../../platform/store/schedules';
import { requireEndpoint, requireFunction } from '../checks';
import type { ApiDeps } from '../deps';
import { requireFlow } from '../flows/checks';
import { FlowsError } from '../flows/errors';
import { checkInput } from '../flows/input-schema';
import { idParameter, route, type Route } from '../route';
import { withSameId } from '../same-id';

/** Schedules of flows and functions. A function is scheduled as a flow with one state, so that it has runs and logs. */

const MAX_TIMES_DAYS = 400;
const DAY_MS = 86_400_000;

export function scheduleRoutes({ db, schedules, quotas, repeats, log }: ApiDeps): Route[] {
  async function requireSchedule(identity: Identity, call: { params: Record<string, string> }): Promise<ScheduleRow> {
    const id = idParameter(call, 'id', 'NOT_FOUND');
    const row = await findSchedule(db, id);
    if (row?.ownerId === identity.id) return row;
    throw new TerminalError('NOT_FOUND', `schedule ${id} does not exist; GET /v1/schedules lists yours`);
  }

  async function requireState(row: ScheduleRow): Promise<ScheduleState> {
    const state = await schedules.read(row.id);
    if (state) return state;
    throw new TerminalError(
      'CONFLICT',
      `schedule ${row.id} was not created completely, or was deleted in Temporal; delete it and create it again`,
    );
  }

  async function targetOf(
    identity: Identity,
    { target, name }: CreateSchedule,
  ): Promise<{ flowId: string; ownsFlow: boolean; input: unknown }> {
    if ('flow' in target) {
      const flow = await asV1Errors(async () => (await requireFlow(db, identity, target.flow, 'run')).flow);
      await asV1Errors(() => checkInput(identity.id, flow.inputSchema, target.input));
      return { flowId: flow.id, ownsFlow: false, input: target.input };
    }
    const fn = await requireFunction(db, identity, ['view', 'use'], target.function);
    const endpoint = await requireEndpoint(db, identity, ['view', 'use'], target.endpoint);
    const id = randomUUID();
    await insertFlow(db, {
      ...NOT_SHARED,
      id,
      ownerId: identity.id,
      title: `${fn.name} on ${endpoint.name}`.slice(0, 128),
      subtitle: `made for schedule ${name}`.slice(0, 128),
      definition: callDefinition(target.endpoint),
      inputSchema: { type: 'object', required: ['tasks'] },
    });
    const tasks = [{ function_id: target.function, args: target.args, kwargs: target.kwargs }];
    return { flowId: id, ownsFlow: true, input: { tasks } };
  }

  /** Completes what an earlier call with this ID left unfinished. */
  async function create(identity: Identity, id: string, body: CreateSchedule): Promise<ScheduleDocument> {
    const row = (await findSchedule(db, id)) ?? (await insert(identity, id, body));
    try {
      await schedules.create(row.id, body.name, body);
    } catch (error) {
      // After any other error, Temporal may have the schedule, and a repeat of the request completes it.
      if (error instanceof TerminalError) {
        await removeRefusedSchedule(db, row.id);
        if (row.ownsFlow) await deleteFlow(db, row.flowId);
      }
      throw error;
    }
    return documentOf(row, await readMade(row.id, body));
  }

  async function insert(identity: Identity, id: string, body: CreateSchedule): Promise<ScheduleRow> {
    await quotas.requireRoomForSchedule(identity.id);
    const row = { id, ownerId: identity.id, name: body.name, ...(await targetOf(identity, body)) };
    const inserted = await insertSchedule(db, row);
    if (inserted) return inserted;
    if (row.ownsFlow) await deleteFlow(db, row.flowId);
    throw new TerminalError('CONFLICT', `you have a schedule with the name ${body.name}; delete it or choose another name`);
  }

  /** The schedule exists, so the response is not an error if Temporal cannot show the schedule now. */
  async function readMade(id: string, body: CreateSchedule): Promise<ScheduleState> {
    const known = { cron: body.cron, everyS: body.every_s ?? null, timeZone: body.time_zone, overlap: body.overlap };
    const state = await schedules.read(id).catch((error: unknown) => {
      log.warn({ err: error, scheduleId: id }, 'a schedule was created, and could not be read afterwards');
      return undefined;
    });
    return state ?? { ...known, paused: body.paused, note: null, nextTimes: [] };
  }

  async function remove(row: Pick<ScheduleRow, 'id' | 'flowId' | 'ownsFlow'>): Promise<void> {
    await schedules.delete(row.id); // first: a row without a schedule starts nothing
    await deleteSchedule(db, row.id);
    if (row.ownsFlow) await deleteFlow(db, row.flowId);
  }

  return [
    route({
      method: 'post',
      path: '/v1/schedules',
      summary: 'Creates a schedule that runs a flow or calls a function, as you',
      body: createScheduleSchema,
      response: scheduleSchema,
      status: 201,
      errors: ['CONFLICT', 'NOT_FOUND', 'FORBIDDEN', 'FUNCTION_NOT_FOUND', 'ENDPOINT_NOT_FOUND', 'LIMIT_EXCEEDED'],
      handle: ({ identity, body, req, res }) =>
        withSameId(
          { repeats },
          { identity, req, res },
          { work: (id) => create(identity, id, body), isDeleted: (id) => isDeletedSchedule(db, id) },
        ),
    }),
    route({
      method: 'get',
      path: '/v1/schedules',
      summary: 'Your schedules',
      response: scheduleListSchema,
      handle: async ({ identity }) => {
        const rows = await listSchedules(db, identity.id);
        return { schedules: await Promise.all(rows.map(async (row) => documentOf(row, await schedules.read(row.id)))) };
      },
    }),
    route({
      method: 'get',
      path: '/v1/schedules/:id',
      summary: 'A schedule with its next times',
      response: scheduleSchema,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        return documentOf(row, await requireState(row));
      },
    }),
    route({
      method: 'get',
      path: '/v1/schedules/:id/times',
      summary: 'The times between two moments at which the schedule is due',
      query: backfillSchema,
      response: scheduleTimesSchema,
      errors: ['NOT_FOUND'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        const times = await schedules.times(row.id, ...periodOf(call.query));
        return { times: times.map((time) => time.toISOString()) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/schedules/:id/pause',
      summary: 'Pauses or resumes a schedule',
      body: pauseScheduleSchema,
      response: scheduleSchema,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        await requireState(row);
        await schedules.pause(row.id, call.body.paused, call.body.note);
        return documentOf(row, await requireState(row));
      },
    }),
    route({
      method: 'post',
      path: '/v1/schedules/:id/trigger',
      summary: 'Starts a run now, even while the schedule is paused',
      response: doneSchema,
      status: 202,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        await requireState(row);
        await schedules.trigger(row.id);
        return { schedule_id: row.id };
      },
    }),
    route({
      method: 'post',
      path: '/v1/schedules/:id/backfill',
      summary: 'Starts the runs that were due between two moments, one after another',
      body: backfillSchema,
      response: doneSchema,
      status: 202,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        await requireState(row);
        await schedules.backfill(row.id, ...periodOf(call.body));
        return { schedule_id: row.id };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/schedules/:id',
      summary: 'Deletes a schedule; its runs continue and are kept',
      response: doneSchema,
      errors: ['NOT_FOUND'],
      handle: async (call) => {
        const row = await requireSchedule(call.identity, call);
        await remove(row);
        return { schedule_id: row.id };
      },
    }),
  ];
}

const NOT_SHARED = {
  description: '',
  keywords: [],
  subscriptionId: null,
  viewers: [],
  starters: [],
  administrators: [],
  runManagers: [],
  runMonitors: [],
};
const CALL_WAIT_S = 7 * 86_400;

/** The tasks come from the input, so that the flow does not read text in their arguments as a path. */
const callDefinition = (endpoint: string): unknown => ({
  StartAt: 'Call',
  States: {
    Call: {
      Type: 'Action',
      ActionUrl: 'https://compute.actions.globus.org/v3',
      Parameters: { endpoint_id: endpoint, 'tasks.$': '$.tasks' },
      ResultPath: '$.Call',
      WaitTime: CALL_WAIT_S,
      End: true,
    },
  },
});

async function asV1Errors<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof FlowsError)) throw error;
    const code = error.code === 'NOT_FOUND' || error.code === 'FORBIDDEN' ? error.code : 'INVALID_REQUEST';
    const details = typeof error.detail === 'string' ? [] : error.detail.map(({ loc, msg }) => `${loc.join('.')}: ${msg}`);
    throw new TerminalError(code, [error.message, ...details].join('; '), { cause: error });
  }
}

function periodOf({ from, to }: { from: string; to: string }): [Date, Date] {
  const [start, end] = [new Date(from), new Date(to)];
  if (end > start && end.getTime() - start.getTime() <= MAX_TIMES_DAYS * DAY_MS) return [start, end];
  throw new TerminalError('INVALID_REQUEST', `"to" must be after "from", by at most ${MAX_TIMES_DAYS} days`);
}

function documentOf(row: ScheduleRow, state: ScheduleState | undefined): ScheduleDocument {
  return {
    schedule_id: row.id,
    name: row.name,
    flow_id: row.flowId,
    flow_title: row.flowTitle,
    cron: state?.cron ?? [],
    every_s: state?.everyS ?? null,
    time_zone: state?.timeZone ?? 'UTC',
    overlap: state?.overlap ?? 'skip',
    paused: state?.paused ?? true,
    note: state ? state.note : 'Temporal does not know this schedule; delete it and create it again',
    next_times: (state?.nextTimes ?? []).map((time) => time.toISOString()),
    created_at: row.createdAt.toISOString(),
  };
}
