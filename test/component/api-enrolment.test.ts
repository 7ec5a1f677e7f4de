import { randomUUID } from 'node:crypto';

import { createAudit } from '../../api/audit';
import { createBrokerUsers } from '../../platform/broker-users';
import { createIdentities, type Identities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { deleteEndpoint } from '../../platform/store/endpoints';
import { startApi, type Answer, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** One-time codes of agents on other machines, on a real database. */

let postgres: ScratchPostgres;
let identities: Identities;
let api: ApiHarness;
let revokedUsers: string[];
let isBrokerAway: boolean;
let owner: { id: string; token: string };

beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop());

beforeEach(async () => {
  revokedUsers = [];
  isBrokerAway = false;
  identities = createIdentities(postgres.db);
  const brokerUsers = createBrokerUsers(
    postgres.db,
    {
      mint: async ({ name }) => ({ name, password: 'p' }),
      revoke: async (names) => {
        if (isBrokerAway) throw new Error('the broker is away');
        revokedUsers.push(...names);
      },
      exists: async () => true,
      listConnectedUsers: async () => new Set(),
    },
    'amqps://broker:5671/funcx',
  );
  const audit = createAudit(postgres.db, createLogger('audit', 'silent'), 90);
  api = await startApi({ db: postgres.db, deps: { identities, brokerUsers, audit } });
  owner = await person();
});
afterEach(() => api.close());

async function tokenOf(identityId: string): Promise<string> {
  const resourceServer = 'funcx_service';
  const [issued] = await identities.issueTokens(identityId, [{ scope: 'all', resourceServer }]);
  return issued?.token ?? '';
}

async function person(): Promise<{ id: string; token: string }> {
  const { id } = await identities.create({ name: `p-${randomUUID()}` });
  return { id, token: await tokenOf(id) };
}

const ask = (token: string, method: string, path: string, body?: unknown): Promise<Answer> =>
  api.request(undefined, method, path, body, { authorization: `Bearer ${token}` });

interface Invited {
  endpoint_id: string;
  secret: string;
}
const invite = async (body: object = { name: 'laptop' }): Promise<Invited> =>
  (await ask(owner.token, 'POST', '/v1/invitations', body)).body as Invited;

const newAgent = (): { client_id: string; client_secret: string } => ({ client_id: randomUUID(), client_secret: 's'.repeat(40) });
const enrol = ({ endpoint_id, secret }: Invited, agent = newAgent()): Promise<Answer> =>
  ask(secret, 'POST', `/v1/endpoints/${endpoint_id}/enrolment`, agent);

const REGISTRATION = { name: 'laptop', incarnation: 'first', workers: 2 };

test('a code yields an identity that serves its endpoint for the owner, and does nothing else', async () => {
  const invited = await ask(owner.token, 'POST', '/v1/invitations', { name: 'laptop', expires_in_s: 600 });
  expect(invited).toMatchObject({ status: 201, body: { name: 'laptop', api_url: 'http://localhost:5000' } });
  expect(invited.headers.get('cache-control')).toBe('no-store');
  const lifetimeS = (Date.parse(invited.body.expires_at as string) - Date.now()) / 1000;
  expect(lifetimeS).toBeGreaterThan(590);
  expect(lifetimeS).toBeLessThan(610);

  const agent = newAgent();
  const { endpoint_id: id } = invited.body as Invited;
  expect(await enrol(invited.body as Invited, agent)).toMatchObject({ status: 200, body: { endpoint_id: id, name: 'laptop' } });
  expect(await identities.authenticateClient(agent.client_id, agent.client_secret)).toBeDefined();
  const token = await tokenOf(agent.client_id);
  expect(await ask(token, 'PUT', `/v1/endpoints/${id}`, REGISTRATION)).toMatchObject({ status: 200 });
  const { rows } = await postgres.db.query('select owner_id from endpoints where id = $1', [id]);
  expect(rows).toEqual([{ owner_id: owner.id }]);
  for (const [method, path, body] of [
    ['GET', '/v2/endpoints', undefined],
    ['POST', '/v1/invitations', { name: 'other' }],
    ['POST', '/v1/endpoints', REGISTRATION],
    ['PUT', `/v1/endpoints/${randomUUID()}`, REGISTRATION],
    ['PUT', `/v1/endpoints/${id}`, { ...REGISTRATION, public: true }],
  ] as const) {
    expect(await ask(token, method, path, body)).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
  }
});

test('the store holds no secret of a code, and the audit log says who invited and who enrolled', async () => {
  const invited = await invite();
  const agent = newAgent();
  await enrol(invited, agent);
  await enrol({ ...invited, secret: 'wrong' });
  const { rows } = await postgres.db.query('select row_to_json(c)::text as text from enrolment_codes c');
  expect(JSON.stringify(rows)).not.toContain(invited.secret);
  await api.close();
  const read = async (): Promise<{ entry: object }[]> =>
    (
      await postgres.db.query<{ entry: object }>(
        `select entry from audit_entries where identity_id = any ($1) or entry->'objects'->>'id' = $2 order by id`,
        [[owner.id, agent.client_id], invited.endpoint_id],
      )
    ).rows;
  const deadline = Date.now() + 10_000;
  while ((await read()).length < 3 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  const path = 'POST /v1/endpoints/:id/enrolment';
  expect((await read()).map(({ entry }) => entry)).toMatchObject([
    { action: 'POST /v1/invitations', identity: owner.id, outcome: 'allowed' },
    { action: path, identity: agent.client_id, outcome: 'allowed', objects: { id: invited.endpoint_id } },
    { action: path, outcome: 'refused', code: 'ENROLMENT_UNKNOWN', objects: { id: invited.endpoint_id } },
  ]);
  expect(JSON.stringify(await read())).not.toContain(invited.secret);
  api = await startApi({ db: postgres.db });
});

describe('a code is refused with what to do', () => {
  test('when another agent used it; the same agent may repeat', async () => {
    const invited = await invite();
    const agent = newAgent();
    expect(await enrol(invited, agent)).toMatchObject({ status: 200 });
    expect(await enrol(invited, agent)).toMatchObject({ status: 200 });
    const refused = await enrol(invited);
    expect(refused).toMatchObject({ status: 409, body: { code: 'ENROLMENT_USED' } });
    expect(refused.body.message).toContain('ask the owner of the endpoint for a new code (funcx endpoint invite)');
    expect(await enrol(invited, { ...agent, client_secret: 'x'.repeat(40) })).toMatchObject({ status: 409 });
  });

  test('when two agents use it at the same time, for one of them', async () => {
    const invited = await invite();
    const answers = await Promise.all(Array.from({ length: 5 }, () => enrol(invited)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
  });

  test('when it has expired', async () => {
    const invited = await invite();
    await postgres.db.query('update enrolment_codes set expires_at = now() where endpoint_id = $1', [invited.endpoint_id]);
    const refused = await enrol(invited);
    expect(refused).toMatchObject({ status: 401, body: { code: 'ENROLMENT_EXPIRED' } });
    expect(refused.body.message).toContain('new code');
  });

  test('when its endpoint was deleted', async () => {
    const invited = await invite();
    await deleteEndpoint(postgres.db, invited.endpoint_id);
    expect(await enrol(invited)).toMatchObject({ status: 404, body: { code: 'ENDPOINT_NOT_FOUND' } });
  });

  test('when its owner was revoked', async () => {
    const invited = await invite();
    await identities.revoke(owner.id);
    const refused = await enrol(invited);
    expect(refused).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
    expect(refused.body.message).toContain('was revoked; ask an administrator');
  });

  test('when another service issued it, or a newer code replaced it', async () => {
    const elsewhere = { endpoint_id: randomUUID(), secret: 'of-another-service' };
    const refused = await enrol(elsewhere);
    expect(refused).toMatchObject({ status: 401, body: { code: 'ENROLMENT_UNKNOWN' } });
    expect(refused.body.message).toContain('another service issued it');
    const older = await invite();
    const newer = await invite();
    expect(newer.endpoint_id).toBe(older.endpoint_id);
    expect(await enrol(older)).toMatchObject({ status: 401, body: { code: 'ENROLMENT_UNKNOWN' } });
    expect(await enrol(newer)).toMatchObject({ status: 200 });
  });

  test('after ten wrong guesses, also when the next one is right', async () => {
    const invited = await invite();
    for (let guess = 0; guess < 10; guess++) await enrol({ ...invited, secret: `wrong-${guess}` });
    const refused = await enrol(invited);
    expect(refused).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  test('when the ID that the agent chose belongs to somebody', async () => {
    const other = await person();
    const refused = await enrol(await invite(), { client_id: other.id, client_secret: 's'.repeat(40) });
    expect(refused).toMatchObject({ status: 409, body: { code: 'CONFLICT' } });
  });
});

test('a new enrolment takes the rights of the agent that enrolled before, on the broker too', async () => {
  const [first, second] = [newAgent(), newAgent()];
  const { endpoint_id: id } = await invite().then(async (invited) => {
    await enrol(invited, first);
    return invited;
  });
  const token = await tokenOf(first.client_id);
  await ask(token, 'PUT', `/v1/endpoints/${id}`, REGISTRATION);
  expect(await enrol(await invite({ endpoint_id: id }), second)).toMatchObject({ status: 200 });
  expect(await identities.authenticateClient(first.client_id, first.client_secret)).toBeUndefined();
  expect(await identities.authenticate(token)).toBeUndefined();
  expect(revokedUsers).toEqual([expect.stringContaining(id)]);
});

test('an enrolment that failed at the broker takes the earlier agent off the broker when it is repeated', async () => {
  const [first, second] = [newAgent(), newAgent()];
  const invited = await invite();
  const { endpoint_id: id } = invited;
  await enrol(invited, first);
  await ask(await tokenOf(first.client_id), 'PUT', `/v1/endpoints/${id}`, REGISTRATION);
  const again = await invite({ endpoint_id: id });
  isBrokerAway = true;
  expect((await enrol(again, second)).status).toBeGreaterThanOrEqual(500);
  isBrokerAway = false;
  expect(await enrol(again, second)).toMatchObject({ status: 200 });
  expect(revokedUsers).toEqual([expect.stringContaining(id)]);
});

test('an administrator who revokes the agent takes it off the broker too', async () => {
  const boss = await identities.create({ name: `boss-${randomUUID()}`, isAdmin: true });
  const invited = await invite();
  const agent = newAgent();
  await enrol(invited, agent);
  await ask(await tokenOf(agent.client_id), 'PUT', `/v1/endpoints/${invited.endpoint_id}`, REGISTRATION);
  const revoked = await ask(await tokenOf(boss.id), 'DELETE', `/v1/identities/agent-${agent.client_id}`);
  expect(revoked).toMatchObject({ status: 200 });
  expect(revokedUsers).toEqual([expect.stringContaining(invited.endpoint_id)]);
});

test('a new endpoint is shared as the invitation says; an existing one stays as it was', async () => {
  const group = (await ask(owner.token, 'POST', '/v1/groups', { name: `g-${randomUUID()}` })).body as { id: string };
  const invited = await invite({ name: 'shared', group: group.id });
  const sharing = async (): Promise<unknown> =>
    (await postgres.db.query('select is_public, group_id from endpoints where id = $1', [invited.endpoint_id])).rows[0];
  expect(await sharing()).toEqual({ is_public: false, group_id: group.id });
  const agent = newAgent();
  await enrol(invited, agent);
  await ask(await tokenOf(agent.client_id), 'PUT', `/v1/endpoints/${invited.endpoint_id}`, { ...REGISTRATION, name: 'shared' });
  expect(await ask(owner.token, 'POST', '/v1/invitations', { name: 'shared', public: true })).toMatchObject({ status: 409 });
  expect(await sharing()).toEqual({ is_public: false, group_id: group.id });
  const unknown = { name: 'unknown-group', group: randomUUID() };
  expect(await ask(owner.token, 'POST', '/v1/invitations', unknown)).toMatchObject({ status: 404 });
});

test('only those who may manage an endpoint invite for it, and only agents of ours enrol', async () => {
  const { endpoint_id: id } = await invite();
  const stranger = await person();
  expect(await ask(stranger.token, 'POST', '/v1/invitations', { endpoint_id: id })).toMatchObject({ status: 404 });
  expect(await ask(owner.token, 'POST', '/v1/invitations', {})).toMatchObject({ status: 422 });
  await postgres.db.query(`update endpoints set kind = 'globus' where id = $1`, [id]);
  expect(await ask(owner.token, 'POST', '/v1/invitations', { endpoint_id: id })).toMatchObject({ status: 409 });
});
