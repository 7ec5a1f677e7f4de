import type { Heartbeat } from '../../platform/store/presence';
import { createHeartbeatBatches } from '../../workers/heartbeat-batches';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture } from '../helpers/store-fixture';

/** Heartbeats of many endpoints that arrive at the same time. */

jest.setTimeout(60_000); // waits for locks, on a machine that may be busy

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const newQueue = async (): Promise<string> => (await makeFixture(postgres.db)).endpointId;

const beatOf = (endpointQueueId: string, changes: Partial<Heartbeat> = {}): Heartbeat => ({
  endpointQueueId,
  incarnation: null,
  periodS: 5,
  isActive: true,
  workers: 1,
  report: { heartbeat_period: 5 },
  ...changes,
});

async function isOnline(queueId: string): Promise<boolean | undefined> {
  const { rows } = await postgres.db.query<{ on: boolean }>('select is_online as on from endpoint_queues where id = $1', [
    queueId,
  ]);
  return rows[0]?.on;
}

test('many heartbeats cost few statements, and each tells its sender what it changed', async () => {
  const queues = await Promise.all(Array.from({ length: 20 }, newQueue));
  await postgres.db.query('update endpoint_queues set is_online = false where id = any ($1)', [queues.slice(0, 10)]);
  const query = jest.spyOn(postgres.db, 'query');
  try {
    const record = createHeartbeatBatches(postgres.db);
    const outcomes = await Promise.all(queues.map((id, n) => record(beatOf(id, { report: { n } }))));
    expect(query.mock.calls.length).toBeLessThanOrEqual(2);
    expect(outcomes.map((outcome) => outcome?.endpointQueueId)).toEqual(queues);
    expect(outcomes.map((outcome) => outcome?.changed)).toEqual(queues.map((_, n) => n < 10));
  } finally {
    query.mockRestore();
  }
  const { rows } = await postgres.db.query('select last_report as report from endpoints where id = any ($1)', [queues]);
  expect(rows.map(({ report }) => (report as { n: number }).n).sort((a, b) => a - b)).toEqual(queues.map((_, n) => n));
});

test('a heartbeat whose queue somebody has locked waits alone', async () => {
  const [locked, free] = [await newQueue(), await newQueue()];
  const record = createHeartbeatBatches(postgres.db);
  const client = await postgres.db.connect();
  try {
    await client.query('begin');
    await client.query('select from endpoint_queues where id = $1 for update', [locked]);
    let isRecorded = false;
    const waiting = record(beatOf(locked)).then((outcome) => {
      isRecorded = true;
      return outcome;
    });
    expect(await record(beatOf(free))).toMatchObject({ endpointQueueId: free });
    expect(isRecorded).toBe(false);
    await client.query('commit');
    expect(await waiting).toMatchObject({ endpointQueueId: locked });
  } finally {
    client.release();
  }
});

test('a report that the store refuses fails alone', async () => {
  const [bad, good] = [await newQueue(), await newQueue()];
  const record = createHeartbeatBatches(postgres.db);
  await record(beatOf(good)); // the next ones wait for each other
  const outcomes = await Promise.allSettled([record(beatOf(bad, { report: { text: '\0' } })), record(beatOf(good))]);
  expect(outcomes).toMatchObject([
    { status: 'rejected', reason: { code: '22P05' } },
    { status: 'fulfilled', value: { endpointQueueId: good } },
  ]);
});

test('a large report is written by itself', async () => {
  const [large, small] = [await newQueue(), await newQueue()];
  const query = jest.spyOn(postgres.db, 'query');
  try {
    const record = createHeartbeatBatches(postgres.db);
    const outcomes = await Promise.all([record(beatOf(large, { report: { text: 'x'.repeat(100_000) } })), record(beatOf(small))]);
    expect(outcomes.map((outcome) => outcome?.endpointQueueId)).toEqual([large, small]);
    expect(query).toHaveBeenCalledTimes(2);
  } finally {
    query.mockRestore();
  }
});

test('of several heartbeats that wait, the latest one counts; a last one and that of the next start both count, in order', async () => {
  const queue = await newQueue();
  const record = createHeartbeatBatches(postgres.db);
  await record(beatOf(queue));
  const [older, newer] = await Promise.all([record(beatOf(queue, { workers: 2 })), record(beatOf(queue, { workers: 3 }))]);
  expect(older).toBeUndefined();
  expect(newer).toMatchObject({ isOnline: true, changed: false });
  const { rows } = await postgres.db.query('select workers from endpoint_queues where id = $1', [queue]);
  expect(rows).toEqual([{ workers: 3 }]);

  const last = record(beatOf(queue, { isActive: false }));
  const next = record(beatOf(queue));
  expect(await last).toMatchObject({ isOnline: false, changed: true });
  expect(await next).toMatchObject({ isOnline: true, changed: true });
  expect(await isOnline(queue)).toBe(true);
});
