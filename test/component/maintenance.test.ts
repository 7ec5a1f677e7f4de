import type { UserEndpointDeps } from '../../activities/user-endpoints';
import { createUserEndpoints } from '../../activities/user-endpoints';
import { commandQueueName } from '../../contracts/names';
import type { Logger } from '../../platform/log';
import { partitionDaysAhead } from '../../platform/metrics';
import { dropPartitions, partitionName } from '../../platform/store/partitions';
import { ensureUserEndpoint, saveCoreEndpoint } from '../../platform/store/user-endpoints';
import { startMaintenance, type MaintenanceDeps } from '../../workers/maintenance';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeOwner } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** The slow chores of `workers`. */

const DAY_MS = 86_400_000;

jest.setTimeout(60_000); // a run of the chores begins every 5 s

let postgres: ScratchPostgres;
let maintenance: { close(): Promise<void> } | undefined;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterEach(async () => {
  await maintenance?.close();
  maintenance = undefined;
});
afterAll(() => postgres.stop(), 30_000);

/** Runs the chores beside a Temporal and a broker that have nothing to report. Returns what they log as an error. */
function start(queues: Partial<MaintenanceDeps['queues']> = {}): string[] {
  const errors: string[] = [];
  const ignored = (): void => undefined;
  const log = {
    debug: ignored,
    info: ignored,
    warn: ignored,
    error: (_: object, text: string) => errors.push(text),
  } as unknown as Logger;
  const nothing = { listEndedAbnormally: async () => [] };
  maintenance = startMaintenance({
    config: configFor(),
    log,
    db: postgres.db,
    temporal: nothing,
    flowStarts: nothing,
    brokerUsers: { sweepExpired: async () => undefined },
    queues,
  } as unknown as MaintenanceDeps);
  return errors;
}

test('while the partitions of tomorrow are missing, the log and the metric say so', async () => {
  const tomorrow = Date.now() + DAY_MS;
  const suffix = partitionName('tasks', tomorrow).slice('tasks_'.length);
  expect(await dropPartitions(postgres.db, suffix)).toBe(true);
  const client = await postgres.db.connect();
  try {
    await client.query('begin');
    await client.query('lock table payloads in share update exclusive mode'); // they cannot be created
    const errors = start();
    await until('it is logged', () => errors.some((text) => text.startsWith('the partitions of tomorrow are missing')));
    expect((await partitionDaysAhead.get()).values.map(({ value }) => value)).toEqual([0]);
  } finally {
    await client.query('rollback');
    client.release();
  }
});

/** A user endpoint that nobody used for 25 hours. */
async function unusedUserEndpoint(): Promise<{ id: string; endpointId: string }> {
  const { db } = postgres;
  const ownerId = await makeOwner(db);
  const endpointId = ownerId;
  const core = { id: endpointId, ownerId, name: 'core', displayName: null, isPublic: false, isMultiUser: false };
  await saveCoreEndpoint(db, { ...core, allowedFunctions: null, metadata: {} });
  const key = { endpointId, ownerId, configHash: 'hash', newId: await makeOwner(db), config: {}, runtime: {} };
  const id = await ensureUserEndpoint(db, key);
  await db.query(`update endpoint_queues set changed_at = now() - interval '25 hours' where id = $1`, [id]);
  return { id, endpointId };
}

test('the queue of an unused user endpoint is deleted, and created again by the next start', async () => {
  const { db } = postgres;
  const { id, endpointId } = await unusedUserEndpoint();
  const deleted: string[] = [];
  start({ delete: async (queueId) => void deleted.push(queueId) });
  await until('the user endpoint is collected', async () => {
    const { rows } = await db.query('select 1 from endpoint_queues where id = $1 and collected_at is not null', [id]);
    return rows.length > 0;
  });
  expect(deleted).toEqual([id]);

  await db.query('update endpoint_queues set is_online = true where id = $1', [endpointId]);
  const events: string[] = [];
  const userEndpoints = createUserEndpoints({
    db,
    queues: { declareTasks: async (queueId: string) => void events.push(`queue ${queueId}`) },
    users: { userEndpoint: async () => ({ name: 'user', url: 'amqp://127.0.0.1/funcx' }) },
    publisher: { publish: async (_exchange: string, queue: string) => void events.push(`command to ${queue}`) },
  } as unknown as UserEndpointDeps);
  await userEndpoints.wake(id);
  expect(events).toEqual([`queue ${id}`, `command to ${commandQueueName(endpointId)}`]);
});

test('the rows of old user endpoints stay for an hour after a start, because an `api` of the earlier version may use them', async () => {
  const { db } = postgres;
  const old = await unusedUserEndpoint();
  await db.query(`update endpoint_queues set collected_at = now() - interval '1 year' where id = $1`, [old.id]);
  const exists = async (): Promise<boolean> =>
    (await db.query('select 1 from endpoint_queues where id = $1', [old.id])).rows.length > 0;
  const realNow = Date.now;
  const clock = jest.spyOn(Date, 'now');
  try {
    const collected: string[] = [];
    start({ delete: async (queueId) => void collected.push(queueId) });
    const { id } = await unusedUserEndpoint();
    await until('the chores ran', () => collected.includes(id));
    expect(await exists()).toBe(true);
    clock.mockImplementation(() => realNow() + 3_660_000);
    await until('its row is removed', async () => !(await exists()));
  } finally {
    clock.mockRestore();
  }
});
