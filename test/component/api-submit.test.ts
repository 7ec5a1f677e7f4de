import { gzipSync } from 'node:zlib';

import { configFor, FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';

const alice = person('alice');
const bob = person('bob');
const ENDPOINT = '10000000-0000-4000-8000-000000000001';
const OTHER = '10000000-0000-4000-8000-000000000002';
const ADD = '20000000-0000-4000-8000-00000000000a';
const SECRET = '20000000-0000-4000-8000-00000000000b';
const PAYLOAD = '28\n00\ngASVBgAAAAAAAABNgAOFlC4=\n12\n00\ngAR9lC4=\n';

const fn = (id: string, extra: object = {}) => ({
  id,
  name: 'add',
  ownerId: alice.id,
  isPublic: false,
  groupId: null,
  policy: {},
  ...extra,
});
const target = (id: string, extra: object = {}) => ({
  id,
  name: 'laptop',
  kind: 'agent',
  ownerId: alice.id,
  isPublic: false,
  groupId: null,
  allowedFunctions: null,
  functions: [fn(ADD), fn(SECRET)],
  ...extra,
});

let api: ApiHarness;
let db: FakeDatabase;
const stirred: string[] = [];

beforeEach(async () => {
  db = new FakeDatabase().on('submit-targets', [target(ENDPOINT)]);
  stirred.length = 0;
  const groupWatch = { waitFor: async () => false, stir: (id: string) => void stirred.push(id), close: () => undefined };
  const config = configFor({ FUNCX_MAX_BODY_CHARS: '1000' });
  api = await startApi({ db: db.asDatabase(), people: [alice, bob], config, deps: { groupWatch } });
});
afterEach(() => api.close());

const submit = (who: string, body: object, headers?: Record<string, string>) =>
  api.request(who, 'POST', `/v3/endpoints/${ENDPOINT}/submit`, body, headers);

describe('submitting', () => {
  test('the answer has as many ids as payloads, under the keys as they were sent', async () => {
    const key = ADD.toUpperCase();
    const { status, body } = await submit('alice', {
      create_queue: true,
      tasks: { [key]: [PAYLOAD, PAYLOAD] },
      user_runtime: {},
    });
    expect(status).toBe(200);
    expect(Object.keys(body.tasks)).toEqual([key]);
    expect(body.tasks[key]).toHaveLength(2);
    expect(body.endpoint_id).toBe(ENDPOINT);
    expect(api.accepted[0]).toMatchObject({
      resultQueue: 'single',
      endpointQueueId: ENDPOINT,
      calls: [{ functionId: ADD, functionName: 'add' }],
    });
  });

  test('tells those who wait for results of the task group that one may come soon', async () => {
    const { body } = await submit('alice', { tasks: { [ADD]: [PAYLOAD] } });
    expect(stirred).toEqual([body.task_group_id]);
  });

  test('wishes come from the function, then from the submission, and do not reach the endpoint', async () => {
    db.on('submit-targets', [target(ENDPOINT, { functions: [fn(ADD, { policy: { walltime_s: 5, deadline_s: 60 } })] })]);
    await submit('alice', { tasks: { [ADD]: [PAYLOAD] }, resource_specification: { funcx: { deadline_s: 30 } } });
    expect(api.accepted[0]).toMatchObject({ policy: { walltime_s: 5, deadline_s: 30 } });
    expect(api.accepted[0]?.resourceSpecification).toBeUndefined();
  });

  test('a resource specification for an agent that would ignore it is refused', async () => {
    const specification = { num_nodes: 2, ranks_per_node: 4 };
    const answer = await submit('alice', { tasks: { [ADD]: [PAYLOAD] }, resource_specification: specification });
    expect(answer).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
    expect(JSON.stringify(answer.body)).toContain('does not read a resource specification (num_nodes, ranks_per_node)');
    expect(api.accepted).toHaveLength(0);
  });

  test("an unknown endpoint or function is 404, somebody else's is 403, and nothing is accepted", async () => {
    db.on('submit-targets', []);
    expect(await submit('alice', { tasks: { [ADD]: [PAYLOAD] } })).toMatchObject({
      status: 404,
      body: { code: 'ENDPOINT_NOT_FOUND' },
    });
    db.on('submit-targets', [target(ENDPOINT, { functions: [] })]);
    expect(await submit('alice', { tasks: { [ADD]: [PAYLOAD] } })).toMatchObject({
      status: 404,
      body: { code: 'FUNCTION_NOT_FOUND' },
    });
    db.on('submit-targets', [target(ENDPOINT)]);
    expect(await submit('bob', { tasks: { [ADD]: [PAYLOAD] } })).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
    db.on('submit-targets', [target(ENDPOINT, { isPublic: true, functions: [fn(ADD, { isPublic: true }), fn(SECRET)] })]);
    const mixed = await submit('bob', { tasks: { [ADD]: [PAYLOAD], [SECRET]: [PAYLOAD] } });
    expect(mixed).toMatchObject({ status: 403 });
    expect(mixed.body.message).toContain(SECRET);
    expect(api.accepted).toEqual([]);
  });

  test('a function that the endpoint does not allow is 403 and is named', async () => {
    db.on('submit-targets', [target(ENDPOINT, { allowedFunctions: [SECRET] })]);
    const answer = await submit('alice', { tasks: { [ADD]: [PAYLOAD] } });
    expect(answer).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
    expect(answer.body.message).toContain(ADD);
  });

  test('a payload over the limit is 413, a malformed one 422, and each names its task', async () => {
    const large = await submit('alice', { tasks: { [ADD]: [PAYLOAD, `995\n${'x'.repeat(1_000)}`] } });
    expect(large).toMatchObject({ status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } });
    expect(large.body.message).toContain('task 2');
    const malformed = await submit('alice', { tasks: { [ADD]: ['no length'] } });
    expect(malformed).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
    expect(malformed.body.message).toContain('task 1');
  });

  test.each([{}, { tasks: {} }, { tasks: { [ADD]: [] } }, { tasks: { [ADD]: PAYLOAD } }, { tasks: { nonsense: [PAYLOAD] } }])(
    'a body without proper tasks is 422: %j',
    async (body) => {
      expect(await submit('alice', body)).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
    },
  );

  test('a repeated request is recognised by its key and body', async () => {
    const body = { tasks: { [ADD]: [PAYLOAD] } };
    await submit('alice', body, { 'idempotency-key': 'k1' });
    await submit('alice', body, { 'idempotency-key': 'k1' });
    await submit('alice', { ...body, create_queue: true }, { 'idempotency-key': 'k1' });
    await submit('alice', body);
    const [first, second, third, without] = api.accepted.map((request) => request.idempotency);
    expect(first?.key).toBe('k1');
    expect(second).toEqual(first);
    expect(third?.bodyHash).not.toEqual(first?.bodyHash);
    expect(without).toBeUndefined();
  });

  test.each([
    ['a table', `/v3/endpoints/${ENDPOINT}/submit`, { tasks: { [ADD]: [PAYLOAD] } }],
    ['a table of an older client', '/v2/submit', { endpoint_id: ENDPOINT, tasks: { [ADD]: [PAYLOAD] } }],
    ['a list', '/v2/submit', { tasks: [[ADD, ENDPOINT, PAYLOAD]] }],
  ])('without a key, the repeat of %s whose response was lost gets that response', async (_what, path, body) => {
    const first = await api.request('alice', 'POST', path, body);
    expect(api.accepted.map(({ unanswered }) => unanswered?.bodyHash.length)).toEqual([32]);
    const earlier = '01a21f37-271d-8716-a3ba-d9e024500001';
    api.lost.push({ requestId: 'first', taskGroupId: first.body.task_group_id, tasks: { [ADD]: [earlier] } });
    const repeat = await api.request('alice', 'POST', path, body);
    expect(repeat.status).toBe(200);
    expect(JSON.stringify(repeat.body)).toContain(earlier);
    expect(api.accepted).toHaveLength(1);
  });

  test('a compressed request is understood, and a trace goes along', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const answer = await api.request(
      'alice',
      'POST',
      `/v3/endpoints/${ENDPOINT}/submit`,
      gzipSync(JSON.stringify({ tasks: { [ADD]: [PAYLOAD] } })),
      { 'content-encoding': 'gzip', 'content-type': 'application/json', traceparent },
    );
    expect(answer.status).toBe(200);
    expect(api.accepted[0]).toMatchObject({ traceparent });
  });

  test('a list of calls to several endpoints gets its ids in the order of the list', async () => {
    db.on('submit-targets', [target(ENDPOINT), target(OTHER)]);
    const { status, body } = await api.request('alice', 'POST', '/v2/submit', {
      tasks: [
        [ADD, ENDPOINT, PAYLOAD],
        [ADD, OTHER, PAYLOAD],
        [SECRET, ENDPOINT, PAYLOAD],
      ],
    });
    expect(status).toBe(200);
    expect(body.results).toHaveLength(3);
    expect(
      body.results.every((one: { status: string; task_uuid: string }) => one.status === 'Success' && one.task_uuid !== ''),
    ).toBe(true);
    const ids = body.results.map(({ task_uuid: id }: { task_uuid: string }) => id);
    expect(new Set(ids).size).toBe(3);
    // One request to accept: all tasks are stored in one transaction, or none.
    expect(api.accepted.map(({ calls }) => calls.map((call) => [call.functionId, call.target?.endpoint.id]))).toEqual([
      [
        [ADD, ENDPOINT],
        [SECRET, ENDPOINT],
        [ADD, OTHER],
      ],
    ]);
  });

  test('a list with one unknown endpoint is refused as a whole', async () => {
    const answer = await api.request('alice', 'POST', '/v2/submit', {
      tasks: [
        [ADD, ENDPOINT, PAYLOAD],
        [ADD, OTHER, PAYLOAD],
      ],
    });
    expect(answer).toMatchObject({ status: 404, body: { code: 'ENDPOINT_NOT_FOUND' } });
    expect(api.accepted).toEqual([]);
  });
});
