import { randomBytes, randomUUID } from 'node:crypto';

import { ID_RANDOM_BYTES, makeSharedIds, taskIdOf } from '../../contracts/ids';
import { storeAnswers } from '../../platform/store/answers';
import { listOpenSubmissions, listOpenTasks } from '../../platform/store/open-tasks';
import { insertShared, type SharedRequest } from '../../platform/store/shared-submissions';
import { readProgress, setSharedStates, setSubmissionState } from '../../platform/store/submission-progress';
import { listUnstarted, markStarted, readAccepted, readUnfinished } from '../../platform/store/submissions';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, makeFixture, makeOwner, type StoreFixture } from '../helpers/store-fixture';

/** Submissions that share a workflow: each is a submission of its own, and the workflow sees all of them. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
});
afterAll(() => postgres.stop(), 30_000);

interface Shared {
  requests: SharedRequest[];
  ids: string[];
  first: string;
  last: string;
}

/** Requests with these numbers of tasks. */
function requestsOf(
  tasks: readonly number[],
  { keys = [], groupId = randomUUID() }: { keys?: string[]; groupId?: string } = {},
): Shared {
  const { ownerId, endpointId, functionId } = fixture;
  const ids = makeSharedIds(Date.now(), randomBytes(ID_RANDOM_BYTES), tasks.length);
  const [first = '', last = ''] = [ids[0], ids.at(-1)];
  const requests = ids.map((id, index): SharedRequest => {
    const key = keys[index];
    return {
      submission: {
        id,
        workflowId: `submission/${first}-f-on-e`,
        ownerId,
        endpointId,
        endpointQueueId: endpointId,
        taskGroupId: groupId,
        functionName: `f${index}`,
        policy: { walltime_s: 7 },
        deadline: new Date(Date.now() + 3_600_000),
        tasks: Array.from({ length: tasks[index] ?? 0 }, (_, n) => ({ functionId, payload: Buffer.from(`${index}/${n}`) })),
      },
      remembered: key === undefined ? undefined : { ownerId, key, bodyHash: Buffer.from(key), response: { index } },
      unanswered: {
        id: randomUUID(),
        bodyHash: Buffer.from(`body ${index}`),
        listener: 'test',
        process: randomUUID(),
        response: { index },
      },
    };
  });
  return { requests, ids, first, last };
}

const statesOf = async (ids: readonly string[]): Promise<string[]> => {
  const { rows } = await postgres.db.query<{ state: string; done: boolean }>(
    'select state, finished_at is not null as done from submissions where id = any ($1) order by id',
    [ids],
  );
  return rows.map(({ state, done }) => (done ? `${state}, ended` : state));
};

const answerAll = (submissionId: string, count: number): Promise<unknown> =>
  storeAnswers(
    postgres.db,
    Array.from({ length: count }, (_, n) => {
      const taskId = taskIdOf(submissionId, n + 1);
      return { taskId, endpointQueueId: fixture.endpointId, attempt: 1, state: 'succeeded' as const, frame: frame(taskId) };
    }),
  );

test('requests are inserted together, each as a submission with its tasks, bodies and record', async () => {
  const { db } = postgres;
  const { requests, ids, first, last } = requestsOf([1, 3, 2]);
  expect(await insertShared(db, requests, 'none')).toEqual(new Set(ids));
  const claimed = await claim(db, fixture);
  expect(claimed.map(({ payload }) => payload?.toString())).toEqual(['0/0', '1/0', '1/1', '1/2', '2/0', '2/1']);
  expect(claimed.every(({ walltimeMs }) => walltimeMs === 7_000)).toBe(true);
  const { rows } = await db.query<{ n: number }>('select count(*)::integer as n from unanswered_requests where owner_id = $1', [
    fixture.ownerId,
  ]);
  expect(rows).toEqual([{ n: 3 }]);
  const stored = await db.query<{ bytes: number }>(
    'select stored_bytes as bytes from submissions where id = any ($1) order by id',
    [ids],
  );
  expect(stored.rows).toEqual([{ bytes: 3 }, { bytes: 9 }, { bytes: 6 }]);
  expect(await readProgress(db, first, { lastId: last })).toMatchObject({ open: 6, counts: { dispatched: 6 } });
  expect(await readProgress(db, ids[1]!)).toMatchObject({ open: 3 });
});

test('a request with a key that was used before is not inserted, and the others are', async () => {
  const { db } = postgres;
  await insertShared(db, requestsOf([1, 1], { keys: ['used', 'also'] }).requests, 'none');
  const { requests, ids } = requestsOf([1, 1, 1], { keys: ['new', 'used', 'newer'] });
  expect(await insertShared(db, requests, 'none')).toEqual(new Set([ids[0], ids[2]]));
  expect(await readAccepted(db, fixture.ownerId, 'used')).toEqual({ bodyHash: Buffer.from('used'), response: { index: 0 } });
  expect(await statesOf(ids)).toEqual(['waiting', 'waiting']);
  expect(await listOpenTasks(db, ids[1]!)).toEqual([]);
});

test('a task group of another owner refuses all, and nothing is remembered', async () => {
  const { db } = postgres;
  const groupId = randomUUID();
  await db.query('insert into task_groups (id, owner_id) values ($1, $2)', [groupId, await makeOwner(db)]);
  const { requests, ids } = requestsOf([1, 1], { keys: ['a', 'b'], groupId });
  expect(await insertShared(db, requests, 'none')).toBe('group-of-another-owner');
  expect(await statesOf(ids)).toEqual([]);
  expect(await readAccepted(db, fixture.ownerId, 'a')).toBeUndefined();
});

test('the sweep gets the workflow once, with the tasks of all, until it is marked as started', async () => {
  const { db } = postgres;
  const { requests, first, last, ids } = requestsOf([1, 3, 2]);
  await insertShared(db, requests, 'none');
  const later = new Date(Date.now() + 60_000);
  const ours = async (): Promise<object[]> =>
    (await listUnstarted(db, later, 1_000)).filter(({ ownerId }) => ownerId === fixture.ownerId);
  const expected = { id: first, lastId: last, total: 6, workflowId: `submission/${first}-f-on-e` };
  expect(await ours()).toMatchObject([expected]);
  expect(await readUnfinished(db, [ids[1]!])).toMatchObject([expected]);
  await markStarted(db, [{ id: first, lastId: last }]);
  expect(await ours()).toEqual([]);
});

test('each submission ends with its own last answer, and one that was cancelled stays cancelled', async () => {
  const { db } = postgres;
  const { requests, first, last, ids } = requestsOf([2, 1, 1]);
  await insertShared(db, requests, 'none');
  await claim(db, fixture);
  await answerAll(ids[0]!, 2);
  await setSharedStates(db, first, last, 'running');
  expect(await statesOf(ids)).toEqual(['done, ended', 'running', 'running']);
  expect((await listOpenSubmissions(db, { firstId: first })).map(({ id }) => id)).toEqual(ids.slice(1));
  const taskId = taskIdOf(ids[1]!, 1);
  await storeAnswers(db, [{ taskId, state: 'cancelled', frame: frame(taskId) }]);
  await setSubmissionState(db, ids[1]!, 'cancelled');
  await answerAll(ids[2]!, 1);
  await setSharedStates(db, first, last, 'done');
  expect(await statesOf(ids)).toEqual(['done, ended', 'cancelled, ended', 'done, ended']);
});

test('a workflow that is cancelled as a whole cancels the submissions with open tasks only', async () => {
  const { db } = postgres;
  const { requests, first, last, ids } = requestsOf([1, 1]);
  await insertShared(db, requests, 'none');
  await claim(db, fixture);
  await answerAll(ids[0]!, 1);
  const open = await listOpenTasks(db, first, last);
  expect(open.map(({ id }) => id)).toEqual([taskIdOf(ids[1]!, 1)]);
  await storeAnswers(
    db,
    open.map(({ id }) => ({ taskId: id, state: 'cancelled' as const, frame: frame(id) })),
  );
  await setSharedStates(db, first, last, 'cancelled');
  expect(await statesOf(ids)).toEqual(['done, ended', 'cancelled, ended']);
});
