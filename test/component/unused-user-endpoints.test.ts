import { randomUUID } from 'node:crypto';

import { createPlacement } from '../../accepting/placement';
import { createLogger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { recordHeartbeat } from '../../platform/store/presence';
import {
  ensureUserEndpoint,
  listGoneWithTasks,
  listUnusedUserEndpoints,
  listWaitingUserEndpoints,
  markCollected,
  REMEMBERED_S,
  removeUserEndpoints,
  saveCoreEndpoint,
  takeStartTurn,
} from '../../platform/store/user-endpoints';
import { explain } from '../helpers/explain';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, makeOwner, submit } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/**
 * Each distinct configuration of a stock endpoint has a queue and a broker user: those that nobody uses are collected, and their
 * rows are removed later. Those for which tasks wait are started.
 */

const DAY_S = 86_400;
const PAUSE_S = { online: 0, offline: 0 };

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

interface UserEndpoint {
  id: string;
  endpointId: string;
  ownerId: string;
  configHash: string;
}

async function userEndpoint(lastUsed: string): Promise<UserEndpoint> {
  const { db } = postgres;
  const [ownerId, endpointId] = [await makeOwner(db), randomUUID()];
  const core = { id: endpointId, ownerId, name: 'core', displayName: null, isPublic: false, isMultiUser: false };
  await saveCoreEndpoint(db, { ...core, allowedFunctions: null, metadata: {} });
  const key = { endpointId, ownerId, configHash: randomUUID(), newId: randomUUID(), config: {}, runtime: {} };
  const id = await ensureUserEndpoint(db, key);
  await db.query('update endpoint_queues set changed_at = now() - $2::interval where id = $1', [id, lastUsed]);
  await db.query(
    `insert into broker_users (name, purpose, owner_id, endpoint_queue_id) values ($1, 'user-endpoint', $2, $1::text::uuid)`,
    [id, ownerId],
  );
  return { id, endpointId, ownerId, configHash: key.configHash };
}

/** Tasks that wait at the user endpoint. */
async function submitTo({ id, endpointId, ownerId }: UserEndpoint, tasks: number): Promise<string[]> {
  const { db } = postgres;
  const { functionId } = await makeFixture(db);
  const { taskIds, submissionId } = await submit(db, { endpointId, ownerId, functionId }, tasks);
  await db.query('update tasks set endpoint_queue_id = $2 where id = any ($1)', [taskIds, id]);
  await db.query('update submissions set endpoint_queue_id = $2 where id = $1', [submissionId, id]);
  return taskIds;
}

const setOnline = (id: string, isOnline = true): Promise<unknown> =>
  postgres.db.query('update endpoint_queues set is_online = $2 where id = $1', [id, isOnline]);

const expiries = async (id: string): Promise<number> => {
  const { rows } = await postgres.db.query('select 1 from broker_users where endpoint_queue_id = $1 and expires_at <= now()', [
    id,
  ]);
  return rows.length;
};

test('a user endpoint that nobody used for a day is collected once, with its broker user', async () => {
  const { id } = await userEndpoint('25 hours');
  const recent = await userEndpoint('1 hour');
  const listed = await listUnusedUserEndpoints(postgres.db, DAY_S, 1_000);
  expect(listed).toContain(id);
  expect(listed).not.toContain(recent.id);
  expect(await markCollected(postgres.db, id, DAY_S)).toBe(true);
  expect(await expiries(id)).toBe(1);
  expect(await listUnusedUserEndpoints(postgres.db, DAY_S, 1_000)).not.toContain(id);
});

test('a user endpoint with a waiting task, or that was just woken, is not collected', async () => {
  const { db } = postgres;
  const waiting = await userEndpoint('25 hours');
  await submitTo(waiting, 1);
  const woken = await userEndpoint('25 hours');
  await setOnline(woken.endpointId);
  expect(await takeStartTurn(db, woken.id, PAUSE_S)).toBeDefined();
  const listed = await listUnusedUserEndpoints(db, DAY_S, 1_000);
  expect(listed).not.toContain(waiting.id);
  expect(listed).not.toContain(woken.id);
  expect(await markCollected(db, woken.id, DAY_S)).toBe(false);
  expect(await expiries(woken.id)).toBe(0);
});

test('a collected user endpoint can be collected again after it was woken', async () => {
  const { db } = postgres;
  const { id, endpointId } = await userEndpoint('25 hours');
  await markCollected(db, id, DAY_S);
  await setOnline(endpointId);
  expect(await takeStartTurn(db, id, PAUSE_S)).toBeDefined();
  await db.query(`update endpoint_queues set command_sent_at = now() - interval '25 hours' where id = $1`, [id]);
  expect(await listUnusedUserEndpoints(db, DAY_S, 1_000)).toContain(id);
});

test('a user endpoint that came online again after it was collected can be collected again', async () => {
  const { db } = postgres;
  const { id } = await userEndpoint('25 hours');
  await markCollected(db, id, DAY_S);
  const beat = { endpointQueueId: id, incarnation: null, periodS: 5, isActive: true, workers: 1, report: {} };
  await recordHeartbeat(db, beat);
  await recordHeartbeat(db, { ...beat, isActive: false });
  await db.query(`update endpoint_queues set changed_at = now() - interval '25 hours' where id = $1`, [id]);
  expect(await listUnusedUserEndpoints(db, DAY_S, 1_000)).toContain(id);
});

test('the row of a collected user endpoint is removed, unless a submission names it or it was used again', async () => {
  const { db } = postgres;
  const [removed, named, again, recent] = await Promise.all(['5 days', '5 days', '5 days', '5 days'].map(userEndpoint));
  await submitTo(named!, 1);
  for (const { id } of [removed!, named!, again!]) {
    await db.query(`update endpoint_queues set collected_at = now() - interval '4 days' where id = $1`, [id]);
  }
  await markCollected(db, recent!.id, DAY_S);
  const use = ({ endpointId, ownerId, configHash }: UserEndpoint): Promise<string> =>
    ensureUserEndpoint(db, { endpointId, ownerId, configHash, newId: randomUUID(), config: {}, runtime: {} });
  expect(await use(again!)).toBe(again!.id);
  expect(await removeUserEndpoints(db, 3 * DAY_S, 1_000)).toBe(1);
  const { rows } = await db.query<{ id: string }>('select id from endpoint_queues where id = any ($1)', [
    [removed, named, again, recent].map((one) => one!.id),
  ]);
  expect(rows.map(({ id }) => id).sort()).toEqual([named, again, recent].map((one) => one!.id).sort());
  expect(await use(removed!)).not.toBe(removed!.id);
});

test('a user endpoint that is used while its row is removed keeps its row, or gets another one', async () => {
  const { db } = postgres;
  const [used, removed] = await Promise.all(['5 days', '5 days'].map(userEndpoint));
  for (const { id } of [used!, removed!])
    await db.query(`update endpoint_queues set collected_at = now() - interval '4 days' where id = $1`, [id]);
  const use = (on: Database, { endpointId, ownerId, configHash }: UserEndpoint): Promise<string> =>
    ensureUserEndpoint(on, { endpointId, ownerId, configHash, newId: randomUUID(), config: {}, runtime: {} });
  const exists = async (id: string): Promise<boolean> =>
    (await db.query('select 1 from endpoint_queues where id = $1', [id])).rows.length === 1;
  const client = await db.connect();
  const transaction = client as unknown as Database;
  try {
    await client.query('begin');
    await use(transaction, used!);
    await removeUserEndpoints(db, 3 * DAY_S, 1_000);
    expect([await exists(used!.id), await exists(removed!.id)]).toEqual([true, false]);
    await client.query('commit');

    const again = await userEndpoint('5 days');
    await db.query(`update endpoint_queues set collected_at = now() - interval '4 days' where id = $1`, [again.id]);
    await client.query('begin');
    expect(await removeUserEndpoints(transaction, 3 * DAY_S, 1_000)).toBe(1);
    const using = use(db, again);
    await until('the use waits for the removal', async () => {
      const waiting = `select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%into endpoint_queues%'`;
      return (await db.query(waiting)).rows.length > 0;
    });
    await client.query('commit');
    const id = await using;
    expect(id).not.toBe(again.id);
    expect(await exists(id)).toBe(true);
  } finally {
    client.release(true); // an open transaction ends
  }
});

test('a user endpoint that a process remembers for too long is looked up again, and needs room if it was removed', async () => {
  const { db } = postgres;
  const { endpointId, ownerId } = await userEndpoint('1 hour');
  const needed: string[] = [];
  const quotas = { requireRoomForUserEndpoint: async (id: string) => void needed.push(id) };
  const placement = createPlacement(db, { wake: async () => undefined }, quotas, createLogger('test', 'silent'));
  const place = (): Promise<string> => placement.place({ endpointId, ownerId, config: { nodes: 2 }, runtime: {} });
  const id = await place();
  expect(await place()).toBe(id);
  expect(needed).toEqual([ownerId]);

  const realNow = Date.now;
  let laterMs = 0;
  const clock = jest.spyOn(Date, 'now').mockImplementation(() => realNow() + laterMs);
  try {
    laterMs = REMEMBERED_S * 1_000;
    expect(await place()).toBe(id);
    expect(needed).toHaveLength(1);
    await db.query('delete from endpoint_queues where id = $1', [id]);
    laterMs *= 2;
    expect(await place()).not.toBe(id);
    expect(needed).toHaveLength(2);
  } finally {
    clock.mockRestore();
  }
});

test('an offline user endpoint of an online core endpoint is started while tasks wait or are in flight', async () => {
  const { db } = postgres;
  const [waiting, gone, unused, online, coreOffline] = await Promise.all(
    ['1 minute', '1 minute', '1 minute', '1 minute', '1 minute'].map(userEndpoint),
  );
  for (const one of [waiting, gone, unused, online]) await setOnline(one!.endpointId);
  for (const one of [waiting, online, coreOffline]) await submitTo(one!, 1);
  await setOnline(online!.id);
  const taskIds = await submitTo(gone!, 1);
  await db.query(`update tasks set state = 'dispatched' where id = any ($1)`, [taskIds]);
  await db.query('update endpoint_queues set in_flight = 1 where id = $1', [gone!.id]);
  const listed = await listWaitingUserEndpoints(db);
  const own = [waiting, gone, unused, online, coreOffline].map((one) => one!.id);
  expect(own.filter((id) => listed.includes(id))).toEqual([waiting!.id, gone!.id]);
});

test('looking for user endpoints to start or to recover costs nothing for those that were collected', async () => {
  const { endpointId, ownerId } = await userEndpoint('5 days');
  await postgres.db.query(
    `insert into endpoint_queues (id, endpoint_id, owner_id, config_hash, window_floor, window_span_s, window_size, collected_at)
     select gen_random_uuid(), $1, $2, n, 1, 1, 1, now() from generate_series(1, 1000) n`,
    [endpointId, ownerId],
  );
  await postgres.db.query('analyze endpoint_queues, endpoints, tasks');
  const lists = [listWaitingUserEndpoints, (db: typeof postgres.db) => listGoneWithTasks(db, 2)];
  for (const list of lists) {
    const plan = await explain(postgres.db, list);
    expect(plan).toContain('endpoint_queues_gone');
    expect(plan).not.toMatch(/SubPlan|config_hash|Seq Scan on (endpoint_queues|tasks)/);
  }
});
