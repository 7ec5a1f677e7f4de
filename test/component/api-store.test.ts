import { randomUUID } from 'node:crypto';

import { encodeFrame } from '../../contracts/frames';
import type { GroupResult } from '../../contracts/http/v1';
import { makeSubmissionId, taskIdOf } from '../../contracts/ids';
import { signBodyToken } from '../../platform/body-tokens';
import { createBrokerUsers, type BrokerUsers } from '../../platform/broker-users';
import { createIdentities, type Identities } from '../../platform/identities';
import { storeAnswers } from '../../platform/store/answers';
import { insertSubmissions } from '../../platform/store/submissions';
import { ensureUserEndpoint, saveCoreEndpoint } from '../../platform/store/user-endpoints';
import { startApi, TOKEN_KEY, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** The API on a real database: what it writes it can read, and only for whom it may. */

const CODE = '31\nst\nadd:def add(a,b): return a+b';
const PAYLOAD = '28\n00\ngASVBgAAAAAAAABNgAOFlC4=\n12\n00\ngAR9lC4=\n';

let postgres: ScratchPostgres;
let identities: Identities;
let api: ApiHarness;
let brokerUsers: BrokerUsers;
let minted: string[];
let revoked: string[];
/** Endpoints whose queues were declared at the broker. */
let declared: string[];

beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop());

beforeEach(async () => {
  minted = [];
  revoked = [];
  declared = [];
  identities = createIdentities(postgres.db);
  brokerUsers = createBrokerUsers(
    postgres.db,
    {
      mint: async ({ name }) => {
        minted.push(name);
        return { name, password: 'p' };
      },
      revoke: async (names) => void revoked.push(...names),
      exists: async () => true,
      listConnectedUsers: async () => new Set(),
    },
    'amqps://broker:5671/funcx',
  );
  api = await startApi({
    db: postgres.db,
    deps: {
      identities,
      brokerUsers,
      queues: {
        declare: async (id) => void declared.push(id),
        hasListener: async () => false,
        hasConsumer: async () => false,
        delete: async () => undefined,
      },
      accept: async (request) => {
        const id = makeSubmissionId(Date.now(), Buffer.from(randomUUID()));
        const taskGroupId = request.taskGroupId ?? randomUUID();
        const calls = request.calls.flatMap(({ functionId, payloads }) => payloads.map((payload) => ({ functionId, payload })));
        await insertSubmissions(
          postgres.db,
          [
            {
              id,
              workflowId: `submission/${id}-f-on-e`,
              ownerId: request.owner.id,
              endpointId: request.endpoint.id,
              endpointQueueId: request.endpointQueueId,
              taskGroupId,
              functionName: request.calls[0]?.functionName ?? '',
              policy: request.policy,
              deadline: new Date(Date.now() + 60_000),
              tasks: calls.map(({ functionId, payload }) => ({
                functionId,
                payload: Buffer.from(typeof payload === 'string' ? payload : payload.text),
              })),
            },
          ],
          request.resultQueue,
        );
        const tasks: Record<string, string[]> = {};
        calls.forEach(({ functionId }, index) => (tasks[functionId] ??= []).push(taskIdOf(id, index + 1)));
        return { requestId: randomUUID(), taskGroupId, tasks };
      },
    },
  });
});
afterEach(() => api.close());

interface Person {
  id: string;
  name: string;
  call: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => ReturnType<ApiHarness['request']>;
}

async function join(isAdmin = false): Promise<Person> {
  const name = `person-${randomUUID()}`;
  const { id, secret } = await identities.create({ name, isAdmin });
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  const authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
  const { body } = await api.request(undefined, 'POST', '/v2/oauth2/token', form, { authorization });
  return {
    id,
    name,
    call: (method, path, sent, headers = {}) =>
      api.request(undefined, method, path, sent, { ...headers, authorization: `Bearer ${body.access_token}` }),
  };
}

async function prepare(owner: Person, shared: object = {}): Promise<{ endpointId: string; functionId: string }> {
  const agent = await owner.call('POST', '/v1/endpoints', { name: 'laptop', incarnation: 'i', workers: 2, ...shared });
  const fn = await owner.call('POST', '/v3/functions', {
    function_name: 'add',
    function_code: 'def add(a,b): return a+b',
    serialized: false,
    ...shared,
  });
  return { endpointId: agent.body.endpoint_id, functionId: fn.body.function_uuid };
}

async function submit(who: Person, endpointId: string, functionId: string, count = 1) {
  const answer = await who.call('POST', `/v3/endpoints/${endpointId}/submit`, {
    tasks: { [functionId]: Array.from({ length: count }, () => PAYLOAD) },
  });
  return {
    status: answer.status,
    groupId: answer.body.task_group_id as string,
    taskIds: (answer.body.tasks?.[functionId] ?? []) as string[],
  };
}

/** Sent to its endpoint and answered from there; an answer to a task that was never sent would not count. */
async function answerTask(endpointId: string, taskId: string, data: string, failure?: string) {
  await postgres.db.query(
    `with sent as (update tasks set state = 'dispatched', attempt = 1 where id = $1 and state = 'waiting' returning endpoint_queue_id)
     update endpoint_queues q set in_flight = in_flight + 1 from sent where q.id = sent.endpoint_queue_id`,
    [taskId],
  );
  return storeAnswers(postgres.db, [
    {
      taskId,
      endpointQueueId: endpointId,
      attempt: 1,
      state: failure === undefined ? 'succeeded' : 'failed',
      frame: encodeFrame({
        message_type: 'result',
        data: { task_id: taskId, data, error_details: failure === undefined ? null : { code: failure, user_message: '' } },
      }),
    },
  ]);
}

describe('identities and groups', () => {
  test('a secret is shown once and kept as a hash; a revoked identity is 401 and loses its broker users', async () => {
    const admin = await join(true);
    const name = `made-${randomUUID()}`;
    const made = await admin.call('POST', '/v1/identities', { name });
    expect(made.status).toBe(201);
    const stored = JSON.stringify((await postgres.db.query('select * from identities, access_tokens')).rows);
    expect(stored).not.toContain(made.body.client_secret);
    expect(await admin.call('POST', '/v1/identities', { name })).toMatchObject({ status: 409 });

    const bob = await join();
    await bob.call('GET', '/v2/get_amqp_result_connection_url');
    expect(await bob.call('GET', '/v1/identities')).toMatchObject({ status: 403 });
    expect(await admin.call('DELETE', `/v1/identities/${bob.name}`)).toMatchObject({ status: 200 });
    expect(await bob.call('GET', '/v2/endpoints')).toMatchObject({ status: 401 });
    expect(revoked).toEqual(minted);
  });

  test('what is shared with a group can be used from the moment somebody is added until removed', async () => {
    const [alice, bob] = [await join(), await join()];
    const group = (await alice.call('POST', '/v1/groups', { name: `lab-${randomUUID()}` })).body;
    const { endpointId, functionId } = await prepare(alice, { group: group.id });
    expect(await submit(bob, endpointId, functionId)).toMatchObject({ status: 403 });
    expect(await bob.call('POST', `/v1/groups/${group.id}/members`, { identity: bob.name })).toMatchObject({ status: 404 });
    expect((await alice.call('POST', `/v1/groups/${group.name}/members`, { identity: bob.name })).body.members).toEqual([
      bob.name,
    ]);
    expect(await submit(bob, endpointId, functionId)).toMatchObject({ status: 200 });
    expect((await bob.call('GET', '/v2/endpoints?role=any')).body).toContainEqual(expect.objectContaining({ uuid: endpointId }));
    await alice.call('DELETE', `/v1/groups/${group.id}/members/${bob.id}`);
    expect(await submit(bob, endpointId, functionId)).toMatchObject({ status: 403 });
  });
});

describe('endpoints in the store', () => {
  test('a broker user that the broker creates only after its deletion is deleted again, and then forgotten', async () => {
    const alice = await join();
    const { endpointId } = await prepare(alice);
    const [first = ''] = minted;
    await alice.call('PUT', `/v1/endpoints/${endpointId}`, { name: 'laptop', incarnation: 'i', workers: 2 });
    expect(revoked).toEqual([first]);
    await brokerUsers.sweepExpired();
    expect(revoked).toEqual([first]);
    const ago = `created_at - interval '2 minutes', expires_at = expires_at - interval '2 minutes'`;
    await postgres.db.query(`update broker_users set created_at = ${ago} where name = $1`, [first]);
    await brokerUsers.sweepExpired();
    expect(revoked).toEqual([first, first]);
    const { rows } = await postgres.db.query('select name from broker_users where endpoint_queue_id = $1', [endpointId]);
    expect(rows).toEqual([{ name: minted.at(-1) }]);
  });

  test('a new registration deletes the earlier broker users of the endpoint and no other', async () => {
    const alice = await join();
    const { endpointId } = await prepare(alice);
    await prepare(alice);
    const [first] = minted;
    await alice.call('PUT', `/v1/endpoints/${endpointId}`, { name: 'laptop', incarnation: 'i', workers: 2 });
    expect(revoked).toEqual([first]);
  });

  test('the queue of a user endpoint is not taken over by a registration with its ID, in any format', async () => {
    const [alice, mallory] = [await join(), await join()];
    const core = randomUUID();
    const endpoint = { id: core, ownerId: alice.id, name: 'core', displayName: null, isPublic: false, isMultiUser: false };
    await saveCoreEndpoint(postgres.db, { ...endpoint, allowedFunctions: null, metadata: {} });
    const key = { endpointId: core, ownerId: alice.id, configHash: 'hash', config: { workers: 1 }, runtime: {} };
    const queueId = await ensureUserEndpoint(postgres.db, { ...key, newId: randomUUID() });
    await postgres.db.query(
      `insert into broker_users (name, purpose, owner_id, endpoint_queue_id) values ($1::text, 'user-endpoint', $2, $1::uuid)`,
      [queueId, alice.id],
    );
    const stored = async (): Promise<unknown> =>
      (
        await postgres.db.query(
          `select row_to_json(q) as queue, (select count(*) from endpoints e where e.id = q.id) as endpoints,
                  array(select name from broker_users where endpoint_queue_id = q.id) as users
             from endpoint_queues q where q.id = $1`,
          [queueId],
        )
      ).rows;
    const before = await stored();

    const agent = { name: 'laptop', incarnation: 'i', workers: 2 };
    expect(await mallory.call('PUT', `/v1/endpoints/${queueId}`, agent)).toMatchObject({
      status: 404,
      body: { code: 'ENDPOINT_NOT_FOUND' },
    });
    // The owner of the core endpoint is refused as well: its queues belong to their submitters.
    expect(await alice.call('PUT', `/v1/endpoints/${queueId}`, agent)).toMatchObject({ status: 404 });
    expect(await mallory.call('PUT', `/v3/endpoints/${queueId}`, { endpoint_name: 'laptop' })).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT' },
    });
    const registration = { endpoint_name: 'laptop', endpoint_uuid: queueId, version: '1.0.4' };
    const release = { 'user-agent': 'funcx-sdk-1.0.4' };
    expect(await mallory.call('POST', '/v2/endpoints', registration, release)).toMatchObject({
      status: 403,
      body: { reason: `endpoint ${queueId} belongs to another identity; start the agent with an endpoint ID of your own` },
    });
    expect(await stored()).toEqual(before);
    expect([minted, revoked, declared]).toEqual([[], [], []]);
  });

  test('a user endpoint never gets the queue of another endpoint', async () => {
    const [alice, mallory] = [await join(), await join()];
    const { endpointId } = await prepare(alice);
    const core = { id: randomUUID(), ownerId: mallory.id, name: 'core', displayName: null, isPublic: false, isMultiUser: false };
    await saveCoreEndpoint(postgres.db, { ...core, allowedFunctions: null, metadata: {} });
    const key = { endpointId: core.id, ownerId: mallory.id, configHash: 'hash', config: {}, runtime: {} };
    await expect(ensureUserEndpoint(postgres.db, { ...key, newId: endpointId })).rejects.toThrow('duplicate key');
    const { rows } = await postgres.db.query('select endpoint_id from endpoint_queues where id = $1', [endpointId]);
    expect(rows).toEqual([{ endpoint_id: endpointId }]);
  });

  test('a deleted endpoint is gone for everybody, and deleting it again is fine', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice, { public: true });
    expect(await (await join()).call('DELETE', `/v2/endpoints/${endpointId}`)).toMatchObject({ status: 403 });
    expect(await alice.call('DELETE', `/v2/endpoints/${endpointId}`)).toMatchObject({ status: 200 });
    expect(await alice.call('DELETE', `/v2/endpoints/${endpointId}`)).toMatchObject({ status: 200 });
    expect(await alice.call('GET', `/v2/endpoints/${endpointId}/status`)).toMatchObject({ status: 404 });
    expect(await submit(alice, endpointId, functionId)).toMatchObject({ status: 404 });
    expect([...new Set(revoked)]).toEqual(minted); // each deletion deletes it: it may have been created late
  });

  test('a result connection is the same for all who ask within its lifetime', async () => {
    const alice = await join();
    const answers = await Promise.all([1, 2, 3].map(() => alice.call('GET', '/v2/get_amqp_result_connection_url')));
    expect(new Set(answers.map(({ body }) => body.connection_url as string)).size).toBe(1);
    expect(answers[0]?.body.queue_prefix).toBe(`group.${alice.id}.`);
    expect(minted).toHaveLength(1);
  });
});

describe('tasks and results in the store', () => {
  test('a task is waiting, then has a result or an exception, never both', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds, groupId } = await submit(alice, endpointId, functionId, 2);
    const [good = '', bad = ''] = taskIds;
    expect((await alice.call('GET', `/v2/tasks/${good}`)).body).toEqual({ task_id: good, status: 'waiting-for-ep' });
    await answerTask(endpointId, good, '00\nvalue');
    await answerTask(endpointId, bad, 'Traceback ...', 'RemoteExecutionError');
    const { body } = await alice.call('POST', '/v2/batch_status', { task_ids: [...taskIds, randomUUID()] });
    expect(body.response).toBe('batch');
    expect(body.results).toEqual({
      [good]: { task_id: good, status: 'success', result: '00\nvalue', completion_t: expect.stringMatching(/^\d+\.\d+$/) },
      [bad]: { task_id: bad, status: 'failed', exception: 'Traceback ...', completion_t: expect.any(String) },
    });
    expect((await alice.call('GET', `/v1/tasks/${bad}`)).body).toMatchObject({
      state: 'failed',
      error_code: 'RemoteExecutionError',
    });
    expect((await alice.call('GET', `/v2/taskgroup/${groupId}`)).body).toEqual({
      taskgroup_id: groupId,
      tasks: taskIds.map((id) => ({ id })),
    });
  });

  test('results that exceed one page are in one answer, for all released clients', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds } = await submit(alice, endpointId, functionId, 12);
    const value = (index: number): string => `00\n${String(index).repeat(1_000_000)}`;
    for (const [index, id] of taskIds.slice(1).entries()) await answerTask(endpointId, id, value(index));
    const { status, body } = await alice.call('POST', '/v2/batch_status', { task_ids: [...taskIds, randomUUID()] });
    expect(status).toBe(200);
    expect(Object.keys(body.results as object)).toHaveLength(taskIds.length);
    expect(body.results[taskIds[0]!]).toEqual({ task_id: taskIds[0], status: 'waiting-for-ep' });
    for (const [index, id] of taskIds.slice(1).entries()) {
      const { result, ...rest } = body.results[id] as { result: string };
      expect(rest).toEqual({ task_id: id, status: 'success', completion_t: expect.any(String) });
      expect(result === value(index)).toBe(true);
    }
  });

  test('tasks, groups and submissions of others are not found; administrators find their states only', async () => {
    const [alice, bob, admin] = [await join(), await join(), await join(true)];
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds, groupId } = await submit(alice, endpointId, functionId);
    const states = [`/v1/tasks/${taskIds[0]}`, `/v1/submissions/${taskIds[0]?.slice(0, 31)}00000`];
    const submissionId = `${taskIds[0]?.slice(0, 31)}00000`;
    for (const path of [
      `/v2/tasks/${taskIds[0]}`,
      `/v1/tasks/${taskIds[0]}`,
      `/v2/taskgroup/${groupId}`,
      `/v1/taskgroups/${groupId}/results`,
      `/v1/taskgroups/${groupId}/events`,
      `/v1/submissions/${submissionId}`,
    ]) {
      expect(await alice.call('GET', path.replace('/events', '/results'))).toMatchObject({ status: 200 });
      expect(await bob.call('GET', path)).toMatchObject({ status: 404 });
      expect(await admin.call('GET', path)).toMatchObject({ status: states.includes(path) ? 200 : 404 });
    }
    for (const path of [`/v1/tasks/${taskIds[0]}`, `/v1/taskgroups/${groupId}`, `/v1/submissions/${submissionId}`]) {
      expect(await bob.call('POST', `${path}/cancel`)).toMatchObject({ status: 404 });
      expect(await admin.call('POST', `${path}/cancel`)).toMatchObject({ status: 200 });
      expect(await alice.call('POST', `${path}/cancel`)).toMatchObject({ status: 200 });
    }
    expect((await admin.call('POST', '/v2/batch_status', { task_ids: taskIds })).body.results).toEqual({});
  });

  test('a long poll is answered by the answer, and a cursor continues where it stopped', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds, groupId } = await submit(alice, endpointId, functionId, 3);
    const task = alice.call('GET', `/v1/tasks/${taskIds[0]}?wait_s=20`);
    const group = alice.call('GET', `/v1/taskgroups/${groupId}/results?wait_s=20`);
    await answerTask(endpointId, taskIds[0] ?? '', '00\n0');
    expect((await task).body).toMatchObject({ state: 'succeeded', result: '00\n0' });
    expect((await group).body).toMatchObject({ next: 1, results: [{ seq: 1, task_id: taskIds[0], result: '00\n0' }] });
    await answerTask(endpointId, taskIds[2] ?? '', '00\n2');
    await answerTask(endpointId, taskIds[1] ?? '', '00\n1');
    const { body } = await alice.call('GET', `/v1/taskgroups/${groupId}/results?after=1`);
    expect((body.results as GroupResult[]).map(({ seq, task_id }) => [seq, task_id])).toEqual([
      [2, taskIds[2]],
      [3, taskIds[1]],
    ]);
    expect((await alice.call('GET', `/v1/taskgroups/${groupId}/results?after=3`)).body).toEqual({ results: [], next: 3 });
  });

  test('an event stream brings each result with its cursor and ends when the service stops', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds, groupId } = await submit(alice, endpointId, functionId, 2);
    await answerTask(endpointId, taskIds[0] ?? '', '00\n0');
    const stream = alice.call('GET', `/v1/taskgroups/${groupId}/events?after=1`);
    await answerTask(endpointId, taskIds[1] ?? '', '00\n1');
    setTimeout(() => api.stop.abort(), 300);
    const text = (await stream).body as string;
    expect(text).toContain(`id: 2\nevent: result\ndata: {"seq":2,"task_id":"${taskIds[1]}"`);
    expect(text).not.toContain('"seq":1');
  });

  test('a submission shows its counts and where to watch it', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const { taskIds } = await submit(alice, endpointId, functionId, 2);
    await answerTask(endpointId, taskIds[0] ?? '', '00\n0');
    const id = `${taskIds[0]?.slice(0, 31)}00000`;
    expect((await alice.call('GET', `/v1/submissions/${id}`)).body).toMatchObject({
      submission_id: id,
      total: 2,
      open: 1,
      counts: { waiting: 1, succeeded: 1 },
      temporal_url: expect.stringContaining(encodeURIComponent(`submission/${id}`)),
    });
    expect((await alice.call('GET', `/v1/submissions?endpoint=${endpointId}&state=waiting`)).body.submissions).toHaveLength(1);
    expect((await alice.call('GET', `/v1/submissions?state=done`)).body.submissions).toHaveLength(0);
  });

  test('an agent fetches a body and leaves a result with the tokens of its attempt only', async () => {
    const alice = await join();
    const { endpointId, functionId } = await prepare(alice);
    const taskId = (await submit(alice, endpointId, functionId)).taskIds[0] ?? '';
    const as = (token: string) => ({ authorization: `Bearer ${token}` });
    const bodyToken = signBodyToken(TOKEN_KEY, 'body', taskId, 1);
    const resultToken = signBodyToken(TOKEN_KEY, 'result', taskId, 1);
    const body = await api.request(undefined, 'GET', `/v1/tasks/${taskId}/body`, undefined, as(bodyToken));
    expect(body).toMatchObject({ status: 200, body: CODE + PAYLOAD });
    expect(await api.request(undefined, 'GET', `/v1/tasks/${taskId}/body`, undefined, as(resultToken))).toMatchObject({
      status: 401,
    });
    const leave = (attempt: number, token: string) =>
      api.request(undefined, 'PUT', `/v1/tasks/${taskId}/result?attempt=${attempt}`, '00\nlarge', as(token));
    expect(await leave(1, resultToken)).toMatchObject({ status: 200 });
    expect(await leave(2, resultToken)).toMatchObject({ status: 401 });
    expect(await leave(1, bodyToken)).toMatchObject({ status: 401 });
    const { rows } = await postgres.db.query<{ body: Buffer }>('select body from uploads where id = $1', [taskId]);
    expect(rows.map((row) => row.body.toString())).toEqual(['00\nlarge']);
  });
});
