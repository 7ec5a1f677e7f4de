import { randomUUID } from 'node:crypto';

import {
  ensureUserEndpoint,
  listUnusedUserEndpoints,
  markCollected,
  saveCoreEndpoint,
  takeStartTurn,
} from '../../platform/store/user-endpoints';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, makeOwner, submit } from '../helpers/store-fixture';

/** Each distinct configuration of a stock endpoint has a queue and a broker user: those that nobody uses are collected. */

const DAY_S = 86_400;
const PAUSE_S = { online: 0, offline: 0 };

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

async function userEndpoint(lastUsed: string): Promise<{ id: string; endpointId: string; ownerId: string }> {
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
  return { id, endpointId, ownerId };
}

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
  const { functionId } = await makeFixture(db);
  const { taskIds } = await submit(db, { endpointId: waiting.endpointId, ownerId: waiting.ownerId, functionId }, 1);
  await db.query('update tasks set endpoint_queue_id = $2 where id = any ($1)', [taskIds, waiting.id]);
  const woken = await userEndpoint('25 hours');
  await db.query('update endpoint_queues set is_online = true where id = $1', [woken.endpointId]);
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
  await db.query('update endpoint_queues set is_online = true where id = $1', [endpointId]);
  expect(await takeStartTurn(db, id, PAUSE_S)).toBeDefined();
  await db.query(`update endpoint_queues set command_sent_at = now() - interval '25 hours' where id = $1`, [id]);
  expect(await listUnusedUserEndpoints(db, DAY_S, 1_000)).toContain(id);
});
