import { randomUUID } from 'node:crypto';

import { FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';

/** An ID of somebody else's object gets the answer of an ID that nobody has: nobody learns which IDs exist. */

const alice = person('alice');
const theirs = { id: randomUUID(), ownerId: person('bob').id, name: 'theirs', isPublic: false, groupId: null };
const nobodys = randomUUID();
let api: ApiHarness;
let db: FakeDatabase;

beforeEach(async () => {
  const only = (row: object) => (values: unknown[]) => (values[0] === theirs.id ? [{ ...row }] : []);
  db = new FakeDatabase()
    .on('from functions', only(theirs))
    .on('from endpoints', only({ ...theirs, kind: 'agent', deletedAt: null }))
    .on('find-task-group', only({ ...theirs, lastSeq: 0 }))
    .on('from submissions', only(theirs))
    .on('from task', only(theirs))
    .on('from groups', only({ ...theirs, members: [], providerGroup: null }))
    .on('schedule', only(theirs))
    .on('delete from access_tokens', []);
  api = await startApi({ db: db.asDatabase(), people: [alice] });
});
afterEach(() => api.close());

const schedule = (fn: string, endpoint: string) => ({
  name: 'nightly',
  every_s: 3_600,
  target: { function: fn, endpoint, args: [], kwargs: {} },
});

test.each([
  ['GET', '/v1/endpoints/:id', undefined],
  ['GET', '/v1/submissions/:id', undefined],
  ['GET', '/v1/submissions/:id/tasks', undefined],
  ['POST', '/v1/submissions/:id/cancel', undefined],
  ['GET', '/v1/taskgroups/:id/results', undefined],
  ['GET', '/v1/taskgroups/:id/events', undefined],
  ['POST', '/v1/taskgroups/:id/cancel', undefined],
  ['GET', '/v1/tasks/:id', undefined],
  ['POST', '/v1/tasks/:id/cancel', undefined],
  ['GET', '/v1/schedules/:id', undefined],
  ['POST', '/v1/schedules/:id/pause', { paused: true }],
  ['DELETE', '/v1/schedules/:id', undefined],
  ['POST', '/v1/groups/:id/members', { identity: 'alice' }],
  ['DELETE', '/v1/tokens/:id', undefined],
  ['POST', '/v1/schedules', schedule(':id', ':id')],
  ['POST', '/v1/endpoints', { name: 'mine', incarnation: 'x', workers: 1, group: ':id' }],
] as [string, string, object | undefined][])('%s %s', async (method, path, body) => {
  const ask = async (id: string) => {
    const filled = body === undefined ? undefined : (JSON.parse(JSON.stringify(body).replaceAll(':id', id)) as object);
    const answer = await api.request('alice', method, path.replace(':id', id), filled);
    const { request_id: _request, ...rest } = answer.body as Record<string, unknown>;
    return { status: answer.status, body: JSON.stringify(rest).replaceAll(id, ':id') };
  };
  const [existing, invented] = [await ask(theirs.id), await ask(nobodys)];
  expect(existing.status).toBe(404);
  expect(existing).toEqual(invented);
});

test('an agent that chooses the ID of somebody else gets the answer for an ID that was deleted', async () => {
  const agent = { name: 'mine', incarnation: 'x', workers: 1 };
  const ask = async () => {
    const answer = await api.request('alice', 'PUT', `/v1/endpoints/${theirs.id}`, agent);
    return { status: answer.status, code: answer.body.code as string, message: answer.body.message as string };
  };
  const taken = await ask();
  expect(taken).toMatchObject({ status: 404, code: 'ENDPOINT_NOT_FOUND' });
  const row = { ...theirs, ownerId: alice.id, kind: 'agent', deletedAt: new Date() };
  db.on('from endpoints', (values) => (values[0] === theirs.id ? [row] : []));
  expect(await ask()).toEqual(taken);
});
