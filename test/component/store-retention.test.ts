import { lowestIdAt } from '../../contracts/ids';
import { removeUploads, storeAnswers, sweepUploads } from '../../platform/store/answers';
import { PARTITIONED, partitionName } from '../../platform/store/partitions';
import { reconcileCounts } from '../../platform/store/maintenance';
import { removeExpired } from '../../platform/store/retention';
import { saveUpload } from '../../platform/store/uploads';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, inFlight, makeFixture, openOf, submit, type StoreFixture } from '../helpers/store-fixture';

/** What is removed when its time is over, and counts that are wrong are found. */

const DAY_MS = 86_400_000;
const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
/** In the middle of a day that is `n` days ago, whose partitions the test makes. */
const daysAgo = (n: number): number => today - n * DAY_MS + DAY_MS / 2;

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
  for (const day of [40, 20]) {
    const from = today - day * DAY_MS;
    for (const table of PARTITIONED) {
      await postgres.db.query(
        `create table ${partitionName(table, from)} partition of ${table}
           for values from ('${lowestIdAt(from)}') to ('${lowestIdAt(from + DAY_MS)}')`,
      );
    }
  }
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
});

const CUTOFF = new Date(today - 14 * DAY_MS);

async function answer(ids: readonly string[], answeredMs: number): Promise<void> {
  await storeAnswers(
    postgres.db,
    ids.map((taskId) => ({ taskId, state: 'cancelled', frame: frame(taskId) })),
  );
  await postgres.db.query('update tasks set answered_at = $2 where id = any ($1)', [ids, new Date(answeredMs)]);
}

async function submitAt(ms: number, tasks: number) {
  const submitted = await submit(postgres.db, fixture, tasks, { nowMs: ms });
  await postgres.db.query('update submissions set created_at = $2 where id = $1', [submitted.submissionId, new Date(ms)]);
  await postgres.db.query('update task_groups set created_at = $2 where id = $1', [submitted.groupId, new Date(ms)]);
  return submitted;
}

const count = async (table: string, ids: readonly string[]): Promise<number> =>
  (await postgres.db.query<{ n: number }>(`select count(*)::integer as n from ${table} where id = any ($1)`, [ids])).rows[0]?.n ??
  -1;

test('answered tasks are removed after their time, open and recent ones stay, and an empty day is dropped whole', async () => {
  const old = await submitAt(daysAgo(40), 3);
  const mixed = await submitAt(daysAgo(20), 3);
  const [answeredLongAgo = '', answeredLately = '', open = ''] = mixed.taskIds;
  await postgres.db.query('insert into payload_references (id, position, source) select i, 0, i from unnest($1::uuid[]) i', [
    [...old.taskIds, ...mixed.taskIds],
  ]);
  await answer(old.taskIds, daysAgo(39));
  await answer([answeredLongAgo], daysAgo(19));
  await answer([answeredLately], daysAgo(2));

  expect(await removeExpired(postgres.db, CUTOFF)).toEqual({ partitions: 1, tasks: 1, submissions: 1, groups: 1, flowRuns: 0 });
  const { rows } = await postgres.db.query(`select to_regclass($1) as dropped`, [partitionName('tasks', today - 40 * DAY_MS)]);
  expect(rows).toEqual([{ dropped: null }]);
  for (const table of ['tasks', 'payloads', 'results', 'payload_references']) {
    expect(await count(table, [...old.taskIds, answeredLongAgo])).toBe(0);
  }
  for (const table of ['tasks', 'payload_references']) expect(await count(table, [answeredLately, open])).toBe(2);
  expect(await count('submissions', [mixed.submissionId])).toBe(1);
  expect(await count('task_groups', [mixed.groupId])).toBe(1);

  // Later, when the last ones were answered long ago as well, nothing of it is left.
  await answer([open], daysAgo(18));
  const later = new Date(today);
  expect(await removeExpired(postgres.db, later)).toMatchObject({ partitions: 1, submissions: 1, groups: 1 });
  expect(await count('submissions', [mixed.submissionId])).toBe(0);
});

test('a large result that nobody will name is removed, one of an open task is not', async () => {
  const { taskIds } = await submit(postgres.db, fixture, 2);
  for (const id of taskIds) await saveUpload(postgres.db, id, 1, Buffer.from('large'));
  await answer([taskIds[0] ?? ''], Date.now());
  await postgres.db.query(`update uploads set created_at = now() - interval '1 hour'`);
  expect(await sweepUploads(postgres.db, 7 * DAY_MS)).toBe(1);
  expect(await count('uploads', [taskIds[1] ?? ''])).toBe(1);
});

test('with the large result of an answered task go those of its other attempts, and with that of an open task none', async () => {
  const { taskIds } = await submit(postgres.db, fixture, 2);
  for (const id of taskIds) for (const attempt of [1, 2]) await saveUpload(postgres.db, id, attempt, Buffer.from('large'));
  const [answered = '', open = ''] = taskIds;
  await answer([answered], Date.now());
  const { endpointId: endpointQueueId } = fixture;
  await removeUploads(
    postgres.db,
    taskIds.map((taskId) => ({ taskId, attempt: 2, endpointQueueId })),
  );
  expect([await count('uploads', [answered]), await count('uploads', [open])]).toEqual([0, 1]);
});

test('a count that is wrong is found, named and repaired; right ones are left alone', async () => {
  const { submissionId } = await submit(postgres.db, fixture, 3);
  await postgres.db.query(`update submissions set created_at = now() - interval '1 hour' where id = $1`, [submissionId]);
  await claim(postgres.db, fixture);
  expect(await reconcileCounts(postgres.db)).toEqual({ queues: [], submissions: [] });
  await postgres.db.query('update endpoint_queues set in_flight = 7 where id = $1', [fixture.endpointId]);
  await postgres.db.query('update submissions set open = 5 where id = $1', [submissionId]);
  expect(await reconcileCounts(postgres.db)).toEqual({
    queues: [{ id: fixture.endpointId, counted: 7, actual: 3 }],
    submissions: [{ id: submissionId, counted: 5, actual: 3, workflowId: `submission/${submissionId}-f-on-e` }],
  });
  expect(await inFlight(postgres.db, fixture)).toEqual({ counted: 3, found: 3 });
  expect(await openOf(postgres.db, submissionId)).toBe(3);
});
