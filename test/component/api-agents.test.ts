import { FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';

const alice = person('alice');
const bob = person('bob');
const ID = '10000000-0000-4000-8000-000000000001';
const AGENT = { name: 'laptop', incarnation: 'second', workers: 4 };

const endpoint = (extra: object = {}) => ({
  id: ID,
  ownerId: alice.id,
  name: 'laptop',
  kind: 'agent',
  isPublic: false,
  groupId: null,
  deletedAt: null,
  lockedUntil: null,
  incarnation: 'first',
  heartbeatPeriodS: 5,
  lastHeartbeatAt: new Date(),
  registeredAt: new Date(0),
  ...extra,
});

let api: ApiHarness;
let db: FakeDatabase;
let saved: unknown[][];
let isListening: boolean;
let order: string[];

beforeEach(async () => {
  saved = [];
  order = [];
  isListening = true;
  db = new FakeDatabase().on('left join endpoint_queues', [endpoint()]).on('with saved as', (values) => {
    saved.push(values);
    order.push('saved');
    return [{}];
  });
  api = await startApi({
    db: db.asDatabase(),
    people: [alice, bob],
    deps: {
      queues: {
        declare: async () => void order.push('declared'),
        hasListener: async () => isListening,
        hasConsumer: async () => false,
        delete: async () => undefined,
      },
    },
  });
});
afterEach(() => api.close());

const register = (who: string, body: object) => api.request(who, 'PUT', `/v1/endpoints/${ID}`, body);

describe('an agent registers', () => {
  test('and gets its queues, its keys and an address with credentials, once all of it exists', async () => {
    db.on('left join endpoint_queues', []);
    const { status, body } = await register('alice', AGENT);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      endpoint_id: ID,
      broker: { url: expect.stringContaining(ID) },
      task_queue: `ep.${ID}.tasks`,
      command_queue: `ep.${ID}.commands`,
      results: { exchange: 'funcx.results', routing_key: `${ID}.results` },
      status: { exchange: 'funcx.status', routing_key: `${ID}.status` },
      heartbeat_period_s: 5,
    });
    expect(order).toEqual(['saved', 'declared']);
  });

  test('with a new id when it names none', async () => {
    db.on('left join endpoint_queues', []);
    const { body } = await api.request('alice', 'POST', '/v1/endpoints', AGENT);
    expect(body.endpoint_id).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('while another one is alive is refused, unless it is to take over; then the other is told to stop', async () => {
    const refused = await register('alice', AGENT);
    expect(refused).toMatchObject({ status: 409, body: { code: 'CONFLICT' } });
    expect(refused.body.message).toContain('replace');
    expect(saved).toEqual([]);
    expect(await register('alice', { ...AGENT, replace: true })).toMatchObject({ status: 200 });
    expect(api.commands).toEqual([
      { endpointId: ID, command: { command: 'stop', reason: expect.any(String), incarnation: 'first' } },
    ]);
  });

  test('again by the same process at any time', async () => {
    expect(await register('alice', { ...AGENT, incarnation: 'first' })).toMatchObject({ status: 200 });
    expect(api.commands).toEqual([]);
  });

  test('after the other one died, though its last heartbeat is fresh', async () => {
    isListening = false;
    expect(await register('alice', AGENT)).toMatchObject({ status: 200 });
  });

  test('after the other one fell silent, though its connection is open', async () => {
    db.on('left join endpoint_queues', [endpoint({ lastHeartbeatAt: new Date(Date.now() - 13_000) })]);
    expect(await register('alice', AGENT)).toMatchObject({ status: 200 });
  });

  test("with somebody else's id gets the answer for one that does not exist", async () => {
    expect(await register('bob', AGENT)).toMatchObject({ status: 404, body: { code: 'ENDPOINT_NOT_FOUND' } });
  });

  test('with the id of a deleted endpoint is refused', async () => {
    db.on('left join endpoint_queues', [endpoint({ deletedAt: new Date() })]);
    expect(await register('alice', AGENT)).toMatchObject({ status: 404, body: { code: 'ENDPOINT_NOT_FOUND' } });
  });

  test('while it is locked is told when to come back', async () => {
    db.on('left join endpoint_queues', [endpoint({ lockedUntil: new Date(Date.now() + 9_500) })]);
    const answer = await register('alice', AGENT);
    expect(answer).toMatchObject({ status: 423, body: { code: 'ENDPOINT_LOCKED' } });
    expect(answer.headers.get('retry-after')).toBe('10');
  });

  test('with a name that cannot be a directory is refused by the field', async () => {
    const answer = await register('alice', { ...AGENT, name: '../x' });
    expect(answer).toMatchObject({ status: 422 });
    expect(answer.body.message).toContain('name');
  });
});

test('an agent announces what it can read, and learns what the service can; one of an earlier version says nothing', async () => {
  db.on('left join endpoint_queues', []);
  const { body } = await register('alice', { ...AGENT, capabilities: ['batches', 'from-the-future'] });
  expect(body.capabilities).toContain('batches');
  expect(saved[0]).toContainEqual(['batches', 'from-the-future']);
  await register('alice', AGENT);
  expect(saved[1]).toContainEqual([]);
});
