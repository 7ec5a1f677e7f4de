import { configFor, FakeDatabase, startApi, type ApiHarness } from '../helpers/api-harness';

let api: ApiHarness;
let db: FakeDatabase;

beforeEach(async () => {
  db = new FakeDatabase();
  api = await startApi({ db: db.asDatabase(), config: configFor({ FUNCX_MAX_REQUEST_BYTES: '2000' }) });
});
afterEach(() => api.close());

const FUNCTION = { function_name: 'add', function_code: '3\n01\n' };

describe('errors of the API', () => {
  test('without a token, and with an unknown one, the answer is 401 before anything else is looked at', async () => {
    for (const headers of [{}, { authorization: 'Bearer nonsense' }, { authorization: 'Basic abc' }]) {
      const answer = await api.request(undefined, 'POST', '/v3/functions', '{not json', headers as Record<string, string>);
      expect(answer).toMatchObject({ status: 401, body: { code: 'UNAUTHENTICATED' } });
    }
  });

  test('malformed JSON is 422', async () => {
    const answer = await api.request('alice', 'POST', '/v3/functions', '{not json');
    expect(answer).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST', status: 422 } });
  });

  test('a body that is compressed badly is 422, and one in an unknown encoding 415', async () => {
    const broken = await api.request('alice', 'POST', '/v3/functions', '{}', { 'content-encoding': 'gzip' });
    expect(broken).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
    const unknown = await api.request('alice', 'POST', '/v3/functions', '{}', { 'content-encoding': 'nonsense' });
    expect(unknown).toMatchObject({ status: 415, body: { code: 'UNSUPPORTED_MEDIA_TYPE' } });
  });

  test('a wrong field is 422 and is named', async () => {
    const answer = await api.request('alice', 'POST', '/v3/functions', { ...FUNCTION, function_name: 7 });
    expect(answer).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
    expect(answer.body.message).toContain('function_name');
  });

  test('an oversize request is 413', async () => {
    const answer = await api.request('alice', 'POST', '/v3/functions', { ...FUNCTION, description: 'x'.repeat(3_000) });
    expect(answer).toMatchObject({ status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } });
  });

  test('an unknown route, function, endpoint or task is 404 with its own code', async () => {
    db.on('from functions', []).on('from endpoints', []).on('find-task', []);
    const id = '11111111-2222-4333-8444-555555555555';
    for (const [path, code] of [
      ['/v9/nothing', 'NOT_FOUND'],
      [`/v2/functions/${id}`, 'FUNCTION_NOT_FOUND'],
      [`/v2/endpoints/${id}`, 'ENDPOINT_NOT_FOUND'],
      [`/v2/endpoints/not-an-id/status`, 'ENDPOINT_NOT_FOUND'],
      [`/v2/tasks/${id}`, 'TASK_NOT_FOUND'],
    ] as const) {
      expect(await api.request('alice', 'GET', path)).toMatchObject({ status: 404, body: { code } });
    }
  });

  test('a task older than its retention is 410 and says until when it was kept', async () => {
    db.on('find-task', []);
    const answer = await api.request('alice', 'GET', '/v2/tasks/016c0000-b606-8592-8e44-2cd6aaf00001');
    expect(answer).toMatchObject({ status: 410, body: { code: 'EXPIRED' } });
    expect(answer.body.message).toMatch(/20\d\d-\d\d-\d\d/);
  });

  test('a lost database is 503 with Retry-After; an unexpected failure is 500; neither says more', async () => {
    db.on('from functions', () => {
      throw Object.assign(new Error('connect ECONNREFUSED 10.1.2.3:5432'), { code: 'ECONNREFUSED' });
    });
    const path = '/v2/functions/11111111-2222-4333-8444-555555555555';
    const lost = await api.request('alice', 'GET', path);
    expect(lost).toMatchObject({ status: 503, body: { code: 'UNAVAILABLE' } });
    expect(Number(lost.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(JSON.stringify(lost.body)).not.toContain('10.1.2.3');
    db.on('from functions', () => {
      throw new TypeError('secret detail');
    });
    const failed = await api.request('alice', 'GET', path);
    expect(failed).toMatchObject({ status: 500, body: { code: 'INTERNAL' } });
    expect(JSON.stringify(failed.body)).not.toContain('secret detail');
  });

  test('every answer names its request', async () => {
    const good = await api.request(undefined, 'GET', '/healthz');
    expect(good.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    const bad = await api.request('alice', 'GET', '/v9/nothing');
    expect(bad.body.request_id).toBe(bad.headers.get('x-request-id'));
  });

  test('the metrics are for administrators', async () => {
    expect(await api.request(undefined, 'GET', '/metrics')).toMatchObject({ status: 401 });
    expect(await api.request('alice', 'GET', '/metrics')).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
  });

  test('an engine that is away makes the service not ready, and is named', async () => {
    await api.close();
    api = await startApi({
      db: db.asDatabase(),
      deps: { readiness: async () => ({ postgres: { ok: true }, rabbitmq: { ok: false, reason: 'no connection' } }) },
    });
    expect(await api.request(undefined, 'GET', '/readyz')).toMatchObject({
      status: 503,
      body: { ready: false, engines: { rabbitmq: { ok: false, reason: 'no connection' } } },
    });
  });
});
