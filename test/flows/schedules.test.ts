import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { SCHEDULE_WORKFLOW, temporalScheduleId } from '../../contracts/schedules';
import { funcx, Http, killAndWait, localEndpoint, openTemporal, state } from '../helpers/system';
import { until } from '../helpers/until';

/** Schedules on the real Temporal server. */

const dir = mkdtempSync(join(tmpdir(), 'funcx-schedules-'));
const http = new Http();
let temporal: Awaited<ReturnType<typeof openTemporal>>;

beforeAll(async () => {
  temporal = await openTemporal();
});
afterAll(() => temporal.close());

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
function command(args: string[], env: Record<string, string> = {}): any {
  const { status, stdout, stderr } = funcx([...args, '--json'], env);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

function deployPass(title: string, env: Record<string, string> = {}): string {
  const path = join(dir, `${title}.json`);
  writeFileSync(path, JSON.stringify({ StartAt: 'A', States: { A: { Type: 'Pass', End: true } } }));
  return command(['flow', 'deploy', path, '--title', title], env).id as string;
}

const create = (body: object, as = http) => as.ok('POST', '/v1/schedules', body);

/** The times of the schedule's workflows; the server appends the time to the id. */
async function firedTimes(scheduleId: string): Promise<string[]> {
  const prefix = `${temporalScheduleId(scheduleId)}-`;
  const times: string[] = [];
  const query = `WorkflowType = '${SCHEDULE_WORKFLOW}' AND WorkflowId STARTS_WITH '${prefix}'`;
  for await (const { workflowId } of temporal.client.workflow.list({ query })) times.push(workflowId.slice(prefix.length));
  return times.map((time) => new Date(time).toISOString()).sort();
}

const runsOf = (flowId: string): { status: string; label: string }[] =>
  command(['flow', 'list', '--flow', flowId]).runs as { status: string; label: string }[];

test('a schedule starts one run for each of its times, also over a restart of everything', async () => {
  const flow = deployPass('every two seconds');
  const { schedule_id: id } = await create({ name: 'two', target: { flow }, every_s: 2, overlap: 'allow_all' });
  await until('it has fired', async () => (await firedTimes(id)).length >= 2);
  for (const part of ['workers', 'api', 'temporal', 'postgres'] as const) await killAndWait(part);
  const restarted = new Date().toISOString();
  await until('it fires again', async () => (await firedTimes(id)).filter((time) => time > restarted).length >= 3, {
    deadlineMs: 120_000,
  });
  await http.ok('POST', `/v1/schedules/${id}/pause`, { paused: true });
  const fired = await firedTimes(id);
  const [first = '', last = ''] = [fired[0], fired.at(-1)];
  const from = new Date(Date.parse(first) - 1_000).toISOString();
  const to = new Date(Date.parse(last) + 1_000).toISOString();
  const { times } = await http.ok('GET', `/v1/schedules/${id}/times?from=${from}&to=${to}`);
  expect(fired).toEqual(times);
  // A time whose workflow was interrupted by a kill may get its run after the later ones.
  const over = (): number => runsOf(flow).filter(({ status }) => status === 'SUCCEEDED').length;
  await until('each time has its run', () => over() >= fired.length, { deadlineMs: 120_000 });
  expect(runsOf(flow)).toHaveLength(fired.length);
  await http.ok('DELETE', `/v1/schedules/${id}`);
}, 400_000);

test('a local time that a change to summer time leaves out is skipped, and one that comes twice is due once', async () => {
  const flow = deployPass('at night');
  const spec = { target: { flow }, cron: ['30 2 * * *'], time_zone: 'Europe/Berlin', paused: true };
  const { schedule_id: id } = await create({ name: 'night', ...spec });
  const times = async (from: string, to: string): Promise<string[]> =>
    (await http.ok('GET', `/v1/schedules/${id}/times?from=${from}&to=${to}`)).times as string[];
  expect(await times('2027-03-27T00:00:00Z', '2027-03-30T00:00:00Z')).toEqual([
    '2027-03-27T01:30:00.000Z',
    '2027-03-29T00:30:00.000Z',
  ]);
  expect(await times('2027-10-30T00:00:00Z', '2027-11-02T00:00:00Z')).toEqual([
    '2027-10-30T00:30:00.000Z',
    '2027-10-31T01:30:00.000Z',
    '2027-11-01T01:30:00.000Z',
  ]);
  await http.ok('DELETE', `/v1/schedules/${id}`);
});

test('a backfill starts the runs of a past period, one for each time', async () => {
  const flow = deployPass('made up for');
  const { schedule_id: id } = await create({ name: 'daily', target: { flow }, cron: ['0 4 * * *'], paused: true });
  await http.ok('POST', `/v1/schedules/${id}/backfill`, { from: '2026-03-01T00:00:00Z', to: '2026-03-04T00:00:00Z' });
  await until('they are over', () => runsOf(flow).filter(({ status }) => status === 'SUCCEEDED').length === 3 || undefined);
  expect(await firedTimes(id)).toEqual(['2026-03-01T04:00:00.000Z', '2026-03-02T04:00:00.000Z', '2026-03-03T04:00:00.000Z']);
  expect(runsOf(flow)).toHaveLength(3);
  await http.ok('DELETE', `/v1/schedules/${id}`);
});

test('a schedule of a function calls it with its arguments, when it is triggered', async () => {
  const fn = await http.register('add', 'def add(a, b):\n    return a + b');
  const made = await create({
    name: 'adds',
    target: { function: fn, endpoint: localEndpoint(), args: [1], kwargs: { b: 2 } },
    cron: ['0 0 1 1 *'],
  });
  expect(made).toMatchObject({
    flow_title: 'add on local',
    paused: false,
    next_times: expect.arrayContaining([expect.stringMatching(/-01-01T00:00/)]),
  });
  await http.ok('POST', `/v1/schedules/${made.schedule_id}/trigger`);
  await until('it ran', () => runsOf(made.flow_id as string)[0]?.status === 'SUCCEEDED' || undefined);
  const [run] = command(['flow', 'list', '--flow', made.flow_id]).runs;
  expect(run.details.output.Call.details.result).toEqual([3]);
  await http.ok('DELETE', `/v1/schedules/${made.schedule_id}`);
});

test('the schedule of a revoked owner pauses, says why and starts nothing', async () => {
  const owner = await http.ok('POST', '/v1/identities', { name: `leaves-${Date.now()}` });
  const { client_id, client_secret } = owner;
  const env = { FUNCX_API_URL: state().api_url, FUNCX_CLIENT_ID: client_id, FUNCX_CLIENT_SECRET: client_secret };
  const own = new Http(owner);
  const flow = deployPass('of one who leaves', env);
  const { schedule_id: id } = await create({ name: 'orphan', target: { flow }, cron: ['0 0 1 1 *'] }, own);
  await http.ok('DELETE', `/v1/identities/${owner.client_id}`);
  const handle = temporal.client.schedule.getHandle(temporalScheduleId(id as string));
  await handle.trigger();
  await until('it is paused', async () => (await handle.describe()).state.paused || undefined);
  expect((await handle.describe()).state.note).toContain('revoked');
  await handle.delete();
});

test('times that make no sense are refused, and a name is used once', async () => {
  const flow = deployPass('refused');
  const reply = await http.request('POST', '/v1/schedules', { name: 'bad', target: { flow }, cron: ['99 * * * *'] });
  expect([reply.status, reply.body.code]).toEqual([422, 'INVALID_REQUEST']);
  const { schedule_id: id } = command(['schedule', 'create', 'once', '--flow', flow, '--every', '1h']);
  const again = await http.request('POST', '/v1/schedules', { name: 'once', target: { flow }, every_s: 60 });
  expect([again.status, again.body.code]).toEqual([409, 'CONFLICT']);
  expect(command(['schedule', 'list']).schedules).toContainEqual(
    expect.objectContaining({ name: 'once', every_s: 3_600, paused: false }),
  );
  expect(command(['schedule', 'pause', 'once'])).toMatchObject({ paused: true, next_times: [] });
  expect(command(['schedule', 'pause', 'once', '--resume'])).toMatchObject({ paused: false });
  expect(command(['schedule', 'trigger', 'once'])).toEqual({ schedule_id: id });
  expect(command(['schedule', 'delete', 'once'])).toEqual({ schedule_id: id });
});
