import { createHash } from 'node:crypto';

import { encodeFrame } from '../../contracts/frames';
import type { EndState } from '../../contracts/states';
import { storeAnswers } from '../../platform/store/answers';
import type { Database } from '../../platform/store/database';
import { readProgress } from '../../platform/store/submission-progress';
import { person, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** Failures can be counted, listed, found and submitted again; administrators can see and cancel them. */

let postgres: ScratchPostgres;
let db: Database;
let fixture: StoreFixture;
let api: ApiHarness;
let cancelled: unknown[];

beforeAll(async () => {
  postgres = await startScratchPostgres();
  db = postgres.db;
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

beforeEach(async () => {
  fixture = await makeFixture(db);
  cancelled = [];
  const people = [person('owner', { id: fixture.ownerId }), person('admin', { isAdmin: true }), person('stranger')];
  api = await startApi({
    db,
    people,
    deps: {
      cancel: async (target) => {
        cancelled.push(target);
        return { cancelled: 1 };
      },
    },
  });
});
afterEach(() => api.close());

async function answer(taskId: string, state: EndState, extra: { retryMs?: number; text?: string } = {}): Promise<void> {
  const { text = 'Traceback ...\nValueError: the sample is empty', ...rest } = extra;
  const error = state === 'succeeded' ? null : { code: 'RemoteExecutionError', user_message: '' };
  const frame = encodeFrame({ message_type: 'result', data: { task_id: taskId, data: text, error_details: error } });
  const last = text.split('\n').at(-1) ?? '';
  await storeAnswers(db, [{ taskId, endpointQueueId: fixture.endpointId, attempt: 1, state, frame, error: last, ...rest }]);
}

/** Five tasks: two succeed, one fails, one is cancelled, one expires. */
async function oneOfEach(): Promise<{ submissionId: string; groupId: string; taskIds: string[] }> {
  const made = await submit(db, fixture, 5, { payload: '11\nargs' });
  await claim(db, fixture);
  const ends: EndState[] = ['succeeded', 'failed', 'succeeded', 'cancelled', 'expired'];
  for (const [index, state] of ends.entries()) await answer(made.taskIds[index]!, state);
  return made;
}

const get = async (who: string, path: string) => api.request(who, 'GET', path);

describe('failures in sight', () => {
  test('a submission counts what failed, was cancelled and expired, and a filter finds it', async () => {
    const { submissionId } = await oneOfEach();
    const fine = await submit(db, fixture, 1);
    await claim(db, fixture);
    await answer(fine.taskIds[0]!, 'succeeded');
    const counts = { total: 5, open: 0, failed: 1, cancelled: 1, expired: 1 };
    expect((await get('owner', `/v1/submissions/${submissionId}`)).body).toMatchObject({
      ...counts,
      workflow_id: `submission/${submissionId}-f-on-e`,
    });
    const failed = (await get('owner', '/v1/submissions?failed=true')).body.submissions;
    expect(failed).toMatchObject([{ submission_id: submissionId, ...counts }]);
    expect((await get('owner', '/v1/submissions')).body.submissions).toHaveLength(2);
    expect((await get('owner', '/v1/submissions?open=true')).body.submissions).toHaveLength(0);
  });

  test('a submission is found by the first characters of its id', async () => {
    const { submissionId } = await submit(db, fixture, 1);
    const found = await get('owner', `/v1/submissions?prefix=${submissionId.slice(0, 26)}`);
    expect(found.body.submissions).toMatchObject([{ submission_id: submissionId }]);
    expect((await get('owner', '/v1/submissions?prefix=0000')).body.submissions).toEqual([]);
    expect(await get('owner', '/v1/submissions?prefix=zz')).toMatchObject({ status: 422 });
  });

  test('the failed tasks of a submission and of a group are listed, each with its reason', async () => {
    const { submissionId, groupId, taskIds } = await oneOfEach();
    for (const path of [`/v1/submissions/${submissionId}`, `/v1/taskgroups/${groupId}`]) {
      const { body } = await get('owner', `${path}/tasks?state=failed`);
      expect(body.next).toBeNull();
      expect(body.tasks).toMatchObject([
        {
          task_id: taskIds[1],
          submission_id: submissionId,
          index: 2,
          state: 'failed',
          function_name: 'f',
          endpoint_name: 'e',
          error_code: 'RemoteExecutionError',
          error: 'ValueError: the sample is empty',
        },
      ]);
      const states = (await get('owner', `${path}/tasks?state=cancelled,expired`)).body.tasks;
      expect(states.map((task: { state: string }) => task.state)).toEqual(['cancelled', 'expired']);
    }
    expect(await get('owner', `/v1/submissions/${submissionId}/tasks?state=lost`)).toMatchObject({ status: 422 });
  });

  test('tasks of a group with several submissions come page by page, each once', async () => {
    const first = await submit(db, fixture, 3);
    const second = await submit(db, fixture, 2, { groupId: first.groupId });
    const seen: string[] = [];
    let after = '';
    do {
      const { body } = await get('owner', `/v1/taskgroups/${first.groupId}/tasks?limit=2${after && `&after=${after}`}`);
      seen.push(...body.tasks.map((task: { task_id: string }) => task.task_id));
      after = body.next ?? '';
    } while (after !== '');
    expect(seen).toEqual([...first.taskIds, ...second.taskIds].sort());
  });

  test('a task that is tried again tells when, and after which failure', async () => {
    const { taskIds } = await submit(db, fixture, 1);
    await claim(db, fixture);
    await answer(taskIds[0]!, 'failed', { retryMs: 60_000 });
    const { body } = await get('owner', `/v1/tasks/${taskIds[0]}`);
    expect(body).toMatchObject({ state: 'delayed', last_error: 'ValueError: the sample is empty', function_name: 'f' });
    expect(Date.parse(body.next_attempt_at)).toBeGreaterThan(Date.now() + 30_000);
  });
});

describe('retry', () => {
  test('submits what failed or expired again: same function, arguments, endpoint and policy, in a new group', async () => {
    const { submissionId, groupId } = await oneOfEach();
    const retried = await api.request('owner', 'POST', `/v1/submissions/${submissionId}/retry`, {});
    expect(retried).toMatchObject({ status: 200, body: { tasks: 2, submissions: [expect.any(String)] } });
    expect(retried.body.task_group_id).not.toBe(groupId);
    expect(api.accepted).toMatchObject([
      {
        owner: { id: fixture.ownerId },
        endpoint: { id: fixture.endpointId },
        calls: [{ functionId: fixture.functionId, functionName: 'f', payloads: ['11\nargs', '11\nargs'] }],
        policy: {},
      },
    ]);
    const cancelledOnly = await api.request('owner', 'POST', `/v1/taskgroups/${groupId}/retry`, { states: ['cancelled'] });
    expect(cancelledOnly.body.tasks).toBe(1);
  });

  test('submits nothing when no task failed; a deleted function is refused', async () => {
    const { submissionId, taskIds } = await submit(db, fixture, 1);
    const nothing = await api.request('owner', 'POST', `/v1/submissions/${submissionId}/retry`, {});
    expect(nothing.body).toEqual({ task_group_id: null, tasks: 0, submissions: [] });
    await claim(db, fixture);
    await answer(taskIds[0]!, 'failed');
    await db.query('update functions set deleted_at = now() where id = $1', [fixture.functionId]);
    const refused = await api.request('owner', 'POST', `/v1/submissions/${submissionId}/retry`, {});
    expect(refused).toMatchObject({ status: 404, body: { code: 'FUNCTION_NOT_FOUND' } });
    expect(api.accepted).toEqual([]);
  });

  test('is for the owner only', async () => {
    const { submissionId, groupId } = await oneOfEach();
    for (const who of ['admin', 'stranger']) {
      expect(await api.request(who, 'POST', `/v1/submissions/${submissionId}/retry`, {})).toMatchObject({ status: 404 });
      expect(await api.request(who, 'POST', `/v1/taskgroups/${groupId}/retry`, {})).toMatchObject({ status: 404 });
    }
  });
});

describe('an administrator', () => {
  test('lists the submissions of everybody, with their owners; others may not', async () => {
    const { submissionId } = await oneOfEach();
    const all = await get('admin', '/v1/submissions?all=true&limit=1000');
    const found = all.body.submissions.find((one: { submission_id: string }) => one.submission_id === submissionId);
    expect(found).toMatchObject({ owner_id: fixture.ownerId, owner_name: fixture.ownerId });
    expect((await get('admin', '/v1/submissions')).body.submissions).toEqual([]);
    expect(await get('stranger', '/v1/submissions?all=true')).toMatchObject({ status: 403 });
  });

  test('sees the state of the tasks of others, but neither results nor failures', async () => {
    const { submissionId, groupId, taskIds } = await oneOfEach();
    expect(await get('admin', `/v1/submissions/${submissionId}`)).toMatchObject({ status: 200 });
    const { body } = await get('admin', `/v1/submissions/${submissionId}/tasks?state=failed`);
    expect(body.tasks).toMatchObject([{ state: 'failed', error_code: 'RemoteExecutionError' }]);
    expect(JSON.stringify(body)).not.toContain('sample');
    const [succeeded, failed] = [await get('admin', `/v1/tasks/${taskIds[0]}`), await get('admin', `/v1/tasks/${taskIds[1]}`)];
    expect(succeeded.body).toMatchObject({ state: 'succeeded' });
    expect(succeeded.body).not.toHaveProperty('result');
    expect(failed.body).not.toHaveProperty('exception');
    expect(await get('admin', `/v1/taskgroups/${groupId}/results`)).toMatchObject({ status: 404 });
    expect(await get('admin', `/v2/tasks/${taskIds[0]}`)).toMatchObject({ status: 404 });
  });

  test('cancels the work of others; a stranger does not learn that it exists', async () => {
    const { submissionId, groupId, taskIds } = await submit(db, fixture, 1);
    const paths = [`/v1/submissions/${submissionId}`, `/v1/taskgroups/${groupId}`, `/v1/tasks/${taskIds[0]}`];
    for (const path of paths) expect(await api.request('admin', 'POST', `${path}/cancel`)).toMatchObject({ status: 200 });
    expect(cancelled).toEqual([{ submissionId }, { taskGroupId: groupId }, { taskIds }]);
    for (const path of paths) {
      expect(await api.request('stranger', 'POST', `${path}/cancel`)).toMatchObject({ status: 404 });
    }
    for (const path of [paths[0]!, paths[2]!, `${paths[0]}/tasks`, `${paths[1]}/tasks`]) {
      expect(await get('stranger', path)).toMatchObject({ status: 404 });
    }
  });
});

describe('an endpoint', () => {
  test('tells its owner what waits there and whose it is; whoever may use it sees that it is online', async () => {
    await submit(db, fixture, 3);
    const path = `/v1/endpoints/${fixture.endpointId}`;
    const seen = await get('owner', path);
    expect(seen.body).toMatchObject({
      name: 'e',
      status: 'online',
      owner_name: fixture.ownerId,
      waiting: 3,
      waiting_owners: [`${fixture.ownerId} (3)`],
      in_hand: 0,
      window: 1_000,
    });
    expect(Date.parse(seen.body.waiting_since)).toBeGreaterThan(Date.now() - 60_000);
    expect(await get('stranger', path)).toMatchObject({ status: 404 });
    await db.query('update endpoints set is_public = true where id = $1', [fixture.endpointId]);
    expect((await get('stranger', path)).body).toMatchObject({ status: 'online', waiting: 3, waiting_owners: [] });
  });
});

describe('the progress that a workflow shows', () => {
  test('says why tasks wait: what else waits there, or when the next attempt is due and after what', async () => {
    const { submissionId, taskIds } = await submit(db, fixture, 2);
    expect(await readProgress(db, submissionId)).toMatchObject({
      counts: { waiting: 2 },
      queue: { inHand: 0, window: 1_000, waiting: 2, owners: 1, ownerNames: [`${fixture.ownerId} (2)`] },
    });
    await claim(db, fixture);
    await answer(taskIds[0]!, 'failed', { retryMs: 60_000 });
    const progress = await readProgress(db, submissionId);
    expect(progress).toMatchObject({ nextAttempt: { number: 2, error: 'ValueError: the sample is empty' } });
    expect(progress.queue).toBeUndefined();
    await db.query('update endpoints set deleted_at = now() where id = $1', [fixture.endpointId]);
    expect(await readProgress(db, submissionId)).toMatchObject({ endpointDeleted: true });
  });
});

test('a function is found by the hash of its code, unless it has a policy of its own', async () => {
  const sha256 = createHash('sha256').update('code').digest('hex');
  const found = await get('owner', `/v1/functions?name=f&code_sha256=${sha256}`);
  expect(found.body.functions).toMatchObject([{ function_uuid: fixture.functionId, code_sha256: sha256 }]);
  expect((await get('owner', `/v1/functions?code_sha256=${'0'.repeat(64)}`)).body.functions).toEqual([]);
  await db.query(`update functions set policy = '{"walltime_s": 1}' where id = $1`, [fixture.functionId]);
  expect((await get('owner', `/v1/functions?name=f&code_sha256=${sha256}`)).body.functions).toEqual([]);
});
