import { randomUUID } from 'node:crypto';
import { request as httpRequest } from 'node:http';

import { createAudit } from '../../api/audit';
import { createQuotas } from '../../accepting/quotas';
import type { Identity } from '../../platform/access';
import { storeAnswers } from '../../platform/store/answers';
import { createIdentities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { configFor, person, startApi, type ApiHarness } from '../helpers/api-harness';
import { claim, frame, makeFixture, submit } from '../helpers/store-fixture';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';

/** Tenants that take more than their share, and what administrators see of it. */

const config = configFor({ FUNCX_MAX_FUNCTIONS: '16', FUNCX_MAX_ENDPOINTS: '2', FUNCX_MAX_OPEN_GROUPS: '2' });
let postgres: ScratchPostgres;
let api: ApiHarness;
let greedy: Identity;
let root: Identity;

beforeAll(async () => {
  postgres = await startScratchPostgres();
  const identities = createIdentities(postgres.db);
  greedy = person('greedy', { id: (await identities.create({ name: 'greedy' })).id });
  root = person('root', { id: (await identities.create({ name: 'root', isAdmin: true })).id, isAdmin: true });
  const quotas = createQuotas(postgres.db, config);
  const audit = createAudit(postgres.db, createLogger('audit-test', 'silent'), 90);
  api = await startApi({ db: postgres.db, people: [greedy, root], config, deps: { quotas, audit } });
}, 120_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
}, 60_000);

const register = (code: string) =>
  api.request('greedy', 'POST', '/v3/functions', {
    function_name: 'f',
    function_code: `def f():\n    return "${code}"\n`,
    serialized: false,
  });

test('an owner registers so many different functions, and the same code again without end', async () => {
  for (let n = 0; n < 16; n++) expect((await register(String(n))).status).toBe(200);
  const refused = await register('one more');
  expect(refused).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
  expect(refused.body.message).toContain('You have 16 of at most 16 functions.');
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  for (let n = 0; n < 20; n++) expect((await register('3')).status).toBe(200);
});

test('an owner has so many endpoints, on every wire, and those that exist register again', async () => {
  const agent = { name: 'e', incarnation: randomUUID(), workers: 1, metadata: {} };
  const core = { endpoint_name: 'g', metadata: { endpoint_version: '4.19.0' } };
  const [first, second] = [randomUUID(), randomUUID()];
  expect((await api.request('greedy', 'PUT', `/v1/endpoints/${first}`, agent)).status).toBe(200);
  expect((await api.request('greedy', 'PUT', `/v3/endpoints/${second}`, core)).status).toBe(200);
  for (const [path, body] of [
    [`/v1/endpoints/${randomUUID()}`, agent],
    [`/v3/endpoints/${randomUUID()}`, core],
  ] as const) {
    expect(await api.request('greedy', 'PUT', path, body)).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
  }
  expect((await api.request('greedy', 'PUT', `/v1/endpoints/${first}`, agent)).status).toBe(200);
  expect((await api.request('greedy', 'DELETE', `/v2/endpoints/${second}`)).status).toBe(200);
  expect((await api.request('greedy', 'PUT', `/v1/endpoints/${randomUUID()}`, agent)).status).toBe(200);
});

test('an owner has so many task groups with open tasks, and goes on in those', async () => {
  const quotas = createQuotas(postgres.db, config);
  const [endpointId, functionId] = [randomUUID(), randomUUID()];
  await postgres.db.query(`insert into endpoints (id, owner_id, name, kind) values ($1, $2, 'e', 'agent')`, [
    endpointId,
    root.id,
  ]);
  await postgres.db.query(
    `insert into endpoint_queues (id, endpoint_id, window_floor, window_span_s, window_size) values ($1, $1, 1, 1, 1)`,
    [endpointId],
  );
  await postgres.db.query(`insert into functions (id, owner_id, name, code, is_serialized) values ($1, $2, 'f', 'x', false)`, [
    functionId,
    root.id,
  ]);
  const groups = [randomUUID(), randomUUID()];
  for (const group of groups) {
    (await quotas.reserveTaskGroup(root.id, group))(true);
    await postgres.db.query('insert into task_groups (id, owner_id) values ($1, $2)', [group, root.id]);
    await postgres.db.query(
      `insert into submissions (id, owner_id, endpoint_id, endpoint_queue_id, task_group_id, function_name, total, open, deadline_at)
       values ($1, $2, $3, $3, $4, 'f', 1, 1, now() + interval '1 day')`,
      [randomUUID(), root.id, endpointId, group],
    );
  }
  await expect(quotas.reserveTaskGroup(root.id, randomUUID())).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  await expect(quotas.reserveTaskGroup(root.id, groups[0]!)).resolves.toBeDefined(); // one of the two above
});

test('an owner has so many bytes in the store: functions and arguments are refused, and results are not', async () => {
  const limited = createQuotas(postgres.db, configFor({ FUNCX_MAX_STORED_BYTES: '1000000' }));
  const fixture = await makeFixture(postgres.db);
  const { ownerId } = fixture;
  await limited.reserveBytes(ownerId, 900_000);
  const { taskIds } = await submit(postgres.db, fixture, 9, { payload: 'x'.repeat(100_000) });
  const fresh = createQuotas(postgres.db, configFor({ FUNCX_MAX_STORED_BYTES: '1000000' }));
  await expect(fresh.reserveBytes(ownerId, 200_000)).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
    httpStatus: 429,
    retryAfterS: expect.any(Number),
    message: expect.stringContaining('You have 900004 of at most 1000000 stored bytes'),
  });
  await expect(fresh.requireRoomForFunction(ownerId, Buffer.alloc(200_000))).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  await expect(fresh.requireRoomForFunction(ownerId, Buffer.from('code'))).resolves.toBeUndefined(); // it is there already
  await claim(postgres.db, fixture);
  const results = taskIds.slice(0, 2).map((taskId) => ({
    taskId,
    state: 'succeeded' as const,
    frame: frame(taskId, 'y'.repeat(100_000)),
    endpointQueueId: fixture.endpointId,
    attempt: 1,
  }));
  expect((await storeAnswers(postgres.db, results)).map(({ verdict }) => verdict)).toEqual(['stored', 'stored']);
  const usage = await fresh.usage(ownerId);
  expect(usage.find(({ name }) => name === 'stored_bytes')?.used).toBeGreaterThan(1_100_000);
});

test('everybody sees the own limits and use', async () => {
  const { body } = await api.request('greedy', 'GET', '/v1/limits');
  expect(body.limits).toContainEqual({ name: 'functions', used: 16, limit: 16 });
  expect(body.limits).toContainEqual({ name: 'endpoints', used: 2, limit: 2 });
  expect(body.limits.map(({ name }: { name: string }) => name)).toEqual([
    'open_tasks',
    'open_groups',
    'functions',
    'endpoints',
    'user_endpoints',
    'stored_bytes',
    'api_tokens',
    'schedules',
    'active_runs',
    'result_sockets',
  ]);
});

describe('the audit log', () => {
  test('has a line for each change and each refusal, without bodies and secrets', async () => {
    const id = randomUUID();
    await api.request('greedy', 'POST', '/v1/identities', { name: 'intruder', client_secret: 'hush-hush-hush-hush' });
    await api.request('greedy', 'DELETE', `/v2/functions/${id}?secret=hush`);
    await api.request(undefined, 'GET', `/v2/tasks/${id}`);
    await api.request('greedy', 'GET', '/v1/limits');
    await api.request('root', 'POST', '/v1/groups', { name: `team-${id}` });
    const { body } = await api.request('root', 'GET', '/v1/audit?limit=4');
    const lines = body.entries.map(({ name, action, outcome, status, code }: Record<string, unknown>) => [
      name,
      action,
      outcome,
      status,
      code,
    ]);
    expect(lines).toEqual([
      ['root', 'POST /v1/groups', 'allowed', 201, undefined],
      [null, 'GET /v2/tasks/:id', 'refused', 401, 'UNAUTHENTICATED'],
      ['greedy', 'DELETE /v2/functions/:id', 'refused', 404, 'FUNCTION_NOT_FOUND'],
      ['greedy', 'POST /v1/identities', 'refused', 403, 'FORBIDDEN'],
    ]);
    expect(body.entries[2]).toMatchObject({
      identity: greedy.id,
      objects: { id },
      address: expect.stringContaining('127.0.0.1'),
    });
    expect(JSON.stringify(body)).not.toContain('hush');
  });

  test('has a line for a change whose caller left before the response', async () => {
    const id = (await register('3')).body.function_uuid as string;
    const left = httpRequest(`${api.url}/v2/functions/${id}`, {
      method: 'DELETE',
      headers: { authorization: 'Bearer token-greedy' },
    });
    left.on('error', () => undefined); // it is destroyed below
    const closed = new Promise((resolve) => left.once('close', resolve));
    const lock = await postgres.db.connect();
    try {
      await lock.query('begin');
      await lock.query('select 1 from functions where id = $1 for update', [id]);
      left.end();
      await until('the change waits for the lock', async () => {
        const { rows } = await postgres.db.query(`select 1 from pg_stat_activity where wait_event_type = 'Lock'`);
        return rows.length > 0;
      });
      left.destroy();
      await closed;
      await api.request('root', 'GET', '/v1/audit?limit=1'); // the API knows by now that the caller left
    } finally {
      await lock.query('commit');
      lock.release();
    }
    const line = await until('the change is in the audit log', async () => {
      const { body } = await api.request('root', 'GET', `/v1/audit?identity=${greedy.id}&outcome=allowed&limit=10`);
      const entries = body.entries as { objects: { id?: string } }[];
      return entries.find(({ objects }) => objects.id === id);
    });
    expect(line).toMatchObject({ name: 'greedy', action: 'DELETE /v2/functions/:id', outcome: 'allowed' });
  });

  test('is for administrators, who choose by identity and outcome', async () => {
    expect((await api.request('greedy', 'GET', '/v1/audit')).status).toBe(403);
    const { body } = await api.request('root', 'GET', `/v1/audit?identity=${greedy.id}&outcome=refused&limit=1000`);
    expect(body.entries.length).toBeGreaterThan(3);
    expect(
      body.entries.every(({ identity, outcome }: Record<string, unknown>) => identity === greedy.id && outcome === 'refused'),
    ).toBe(true);
  });
});
