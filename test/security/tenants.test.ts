import { randomUUID } from 'node:crypto';

import type { Identity } from '../../platform/access';
import { createIdentities } from '../../platform/identities';
import { createLogins } from '../../platform/logins';
import { removeUploads, sizeOfUpload } from '../../platform/store/answers';
import {
  bindPipelineQueue,
  findEndpointIds,
  findFunctionId,
  findIdentity,
  findQueueIdentity,
} from '../../platform/store/pipelines';
import { saveUpload } from '../../platform/store/uploads';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit } from '../helpers/store-fixture';

/** Tenants that try to take over names, queues and uploads of others. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 120_000);
afterAll(() => postgres.stop(), 60_000);

async function tenant(name: string): Promise<Identity> {
  const { id } = await createIdentities(postgres.db).create({ name });
  return (await findIdentity(postgres.db, id))!; // just created
}

async function register(owner: Identity, name: string, options: { isPublic: boolean; version?: string }): Promise<string> {
  const id = randomUUID();
  await postgres.db.query(
    `insert into functions (id, owner_id, name, code, is_serialized, is_public, metadata) values ($1, $2, $3, 'x', false, $4, $5)`,
    [id, owner.id, name, options.isPublic, JSON.stringify(options.version ? { version: options.version } : {})],
  );
  await postgres.db.query(`insert into endpoints (id, owner_id, name, kind, is_public) values ($1, $2, $3, 'agent', $4)`, [
    id,
    owner.id,
    name,
    options.isPublic,
  ]);
  return id;
}

describe('a name', () => {
  test('never means a newer public object of another tenant', async () => {
    const [victim, attacker] = [await tenant('victim'), await tenant('attacker')];
    const own = await register(victim, 'train', { isPublic: false });
    await register(attacker, 'train', { isPublic: true });
    await register(attacker, 'predict', { isPublic: true, version: '2.0' });
    expect(await findFunctionId(postgres.db, victim, 'train', undefined)).toBe(own);
    expect(await findEndpointIds(postgres.db, victim, 'train')).toEqual([own]);
    expect(await findFunctionId(postgres.db, victim, 'predict', '2.0')).toBeUndefined();
    expect(await findEndpointIds(postgres.db, victim, 'predict')).toEqual([]);
  });

  test('with its owner means a shared object of that owner, and no private one', async () => {
    const [author, user] = [await tenant('author'), await tenant('user')];
    const shared = await register(author, 'shared', { isPublic: true, version: '1' });
    await register(author, 'private', { isPublic: false });
    expect(await findFunctionId(postgres.db, user, 'author/shared', '1')).toBe(shared);
    expect(await findFunctionId(postgres.db, user, `${author.id}/shared`, undefined)).toBe(shared);
    expect(await findEndpointIds(postgres.db, user, 'author/shared')).toEqual([shared]);
    expect(await findFunctionId(postgres.db, user, 'author/private', undefined)).toBeUndefined();
    expect(await findEndpointIds(postgres.db, user, 'author/private')).toEqual([]);
  });

  test('that holds a slash means the own object of that name first', async () => {
    const [author, user] = [await tenant('team'), await tenant('member')];
    await register(author, 'step', { isPublic: true });
    const own = await register(user, 'team/step', { isPublic: false });
    expect(await findFunctionId(postgres.db, user, 'team/step', undefined)).toBe(own);
  });
});

describe('a task queue of a pipeline', () => {
  const queue = { namespace: 'default', taskQueue: 'steps' };

  test('of a revoked author refuses, instead of acting as the default identity', async () => {
    const author = await tenant('leaver');
    await bindPipelineQueue(postgres.db, { ...queue, identityId: author.id, isAdmin: false });
    expect(await findQueueIdentity(postgres.db, 'default', 'steps')).toMatchObject({ id: author.id });
    await createIdentities(postgres.db).revoke(author.id);
    await expect(findQueueIdentity(postgres.db, 'default', 'steps')).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });

  test('cannot be taken from its author by another tenant, but by an administrator', async () => {
    const [author, other] = [await tenant('first'), await tenant('second')];
    const taskQueue = 'squatted';
    expect(await bindPipelineQueue(postgres.db, { ...queue, taskQueue, identityId: author.id, isAdmin: false })).toBe(true);
    expect(await bindPipelineQueue(postgres.db, { ...queue, taskQueue, identityId: other.id, isAdmin: false })).toBe(false);
    expect(await bindPipelineQueue(postgres.db, { ...queue, taskQueue, identityId: other.id, isAdmin: true })).toBe(true);
    expect(await findQueueIdentity(postgres.db, 'default', taskQueue)).toMatchObject({ id: other.id });
  });
});

test('the upload of an attempt is kept when a foreign agent, or another attempt, names its task', async () => {
  const [fixture, foreign] = [await makeFixture(postgres.db), await makeFixture(postgres.db)];
  const { taskIds } = await submit(postgres.db, fixture, 1);
  await claim(postgres.db, fixture);
  const taskId = taskIds[0]!; // one was submitted
  await saveUpload(postgres.db, taskId, 1, Buffer.from('value'));
  await removeUploads(postgres.db, [{ taskId, attempt: 1, endpointQueueId: foreign.endpointId }]);
  await removeUploads(postgres.db, [{ taskId, attempt: 2, endpointQueueId: fixture.endpointId }]);
  expect(await sizeOfUpload(postgres.db, taskId, 1)).toBeGreaterThan(0);
  await removeUploads(postgres.db, [{ taskId, attempt: 1, endpointQueueId: fixture.endpointId }]);
  expect(await sizeOfUpload(postgres.db, taskId, 1)).toBeUndefined();
});

test('a refresh token that was used is good for one more day', async () => {
  const user = await tenant('refresher');
  const logins = createLogins(postgres.db, 30);
  const [token = ''] = await logins.issueRefreshTokens(user.id, [{ scope: 'openid', resourceServer: 'auth.globus.org' }], null);
  const lifetime = async (): Promise<number> => {
    const { rows } = await postgres.db.query<{ seconds: number }>(
      `select extract(epoch from max(expires_at) - now())::float8 as seconds from access_tokens where identity_id = $1`,
      [user.id],
    );
    return rows[0]?.seconds ?? 0;
  };
  expect(await lifetime()).toBeGreaterThan(100 * 86_400);
  expect(await logins.useRefreshToken(token)).toMatchObject({ identityId: user.id });
  expect(await lifetime()).toBeLessThanOrEqual(86_400);
  expect(await logins.useRefreshToken(token)).toMatchObject({ identityId: user.id });
});
