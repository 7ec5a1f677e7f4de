import { randomUUID } from 'node:crypto';

import { createQuotas } from '../../accepting/quotas';
import { createScheduleActivities } from '../../activities';
import type { Identity } from '../../platform/access';
import { createIdentities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { configFor, person, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** Owners who start runs of flows, or make schedules, without end. */

const config = configFor({ FUNCX_MAX_SCHEDULES: '2', FUNCX_MAX_ACTIVE_RUNS: '2' });
const SERVER = 'flows.globus.org';
const people: Identity[] = [];
let postgres: ScratchPostgres;
let api: ApiHarness;
let greedy: Identity;
let flowId: string;
const state = { cron: [], everyS: 1, timeZone: 'UTC', overlap: 'allow_all', paused: false, note: null, nextTimes: [] };
const schedules = {
  create: async () => undefined,
  read: async () => state,
  pause: async () => undefined,
  trigger: async () => undefined,
  backfill: async () => undefined,
  times: async () => [],
  delete: async () => undefined,
};

beforeAll(async () => {
  postgres = await startScratchPostgres();
  const { id } = await createIdentities(postgres.db).create({ name: 'greedy' });
  greedy = person('greedy', { id, resourceServer: SERVER });
  people.push(greedy, { ...greedy, name: 'scheduler', resourceServer: 'funcx_service' });
  api = await startApi({
    db: postgres.db,
    people,
    config,
    deps: {
      quotas: createQuotas(postgres.db, config),
      schedules,
      flowStarts: { start: async () => true, cancel: async () => true },
    },
  });
  const definition = { StartAt: 'A', States: { A: { Type: 'Pass', End: true } } };
  const made = await api.request('greedy', 'POST', '/flows', { title: 'f', definition, input_schema: {} });
  flowId = made.body.id as string;
  people.push({ ...greedy, name: 'starter', resourceServer: flowId });
}, 120_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
}, 60_000);

const start = (input: object = {}) => api.request('starter', 'POST', `/flows/${flowId}/run`, { body: input });
const schedule = (name: string) =>
  api.request('scheduler', 'POST', '/v1/schedules', { name, target: { flow: flowId, input: {} }, every_s: 1 });

test('an input of more than 4 MB is refused', async () => {
  const { status, body } = await start({ text: 'x'.repeat(4_000_001) });
  expect([status, body.error.code]).toEqual([413, 'PAYLOAD_TOO_LARGE']);
});

test('an owner has so many active runs, and a schedule skips those that would be more', async () => {
  const runs = [await start(), await start()];
  expect(runs.map(({ status }) => status)).toEqual([201, 201]);
  const refused = await start();
  expect([refused.status, refused.body.error.code, refused.body.error.detail]).toEqual([
    429,
    'LIMIT_EXCEEDED',
    expect.stringContaining('You have 2 of at most 2 active runs'),
  ]);

  const { body } = await schedule('pulse');
  const warnings: unknown[] = [];
  const log = Object.assign(createLogger('test', 'silent'), { warn: (fields: unknown) => warnings.push(fields) });
  const activities = createScheduleActivities({
    db: postgres.db,
    schedules,
    temporal: { hasSearchAttributes: false },
    quotas: createQuotas(postgres.db, config),
    log,
  });
  const begin = () => activities.beginScheduledRun({ scheduleId: body.schedule_id as string, occurrence: randomUUID() });
  expect(await begin()).toBeUndefined();
  expect(warnings).toEqual([expect.objectContaining({ reason: expect.stringContaining('active runs') })]);

  await postgres.db.query(`update flow_runs set status = 'SUCCEEDED' where id = $1`, [runs[0]!.body.run_id]); // both were made
  expect(await begin()).toMatchObject({ flowId });
  expect(await begin()).toBeUndefined();
});

test('an owner has so many schedules', async () => {
  expect((await schedule('second')).status).toBe(201);
  expect(await schedule('third')).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
});
