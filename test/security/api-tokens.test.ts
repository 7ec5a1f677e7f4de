import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';

import { allRoutes } from '../../api/app';
import { createAudit } from '../../api/audit';
import type { ApiDeps } from '../../api/deps';
import { createRevocationWatch, type RevocationWatch } from '../../api/revocation-watch';
import { scopeFor } from '../../api/rights';
import { createIdentities, type Identities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { listAuditEntries } from '../../platform/store/audit';
import { hashToken } from '../../platform/secrets';
import { configFor, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';

/** API tokens: shown once, good for their scopes only, and dead when they are revoked or expired. */

const log = createLogger('api-tokens-test', 'silent');
const UNKNOWN = '11111111-2222-4333-8444-555555555555';
const config = configFor({ FUNCX_MAX_API_TOKENS: '20' });
const revokedAtBroker: string[] = [];

let postgres: ScratchPostgres;
let api: ApiHarness;
/** Another process of the API, with a cache of its own. */
let other: ApiHarness;
let identities: Identities;
let watch: RevocationWatch;
let audit: ReturnType<typeof createAudit>;
/** Access tokens of a user and of an administrator who are logged in. */
let alice: string;
let root: string;

beforeAll(async () => {
  postgres = await startScratchPostgres();
  identities = createIdentities(postgres.db);
  watch = createRevocationWatch(identities, log);
  audit = createAudit(postgres.db, log, 1);
  const brokerUsers = {
    revokeToken: async (id: string) => void revokedAtBroker.push(id),
    revokeOwner: async () => undefined,
  } as unknown as ApiDeps['brokerUsers'];
  api = await startApi({ db: postgres.db, config, deps: { identities, audit, brokerUsers, revocations: watch } });
  other = await startApi({ db: postgres.db, config, deps: { identities: createIdentities(postgres.db) } });
  alice = await loginOf('alice', false);
  root = await loginOf('root', true);
}, 60_000);
afterAll(async () => {
  await Promise.all([api?.close(), other?.close()]);
  watch?.close();
  await audit?.close();
  await postgres?.stop();
});

async function loginOf(name: string, isAdmin: boolean): Promise<string> {
  const { id } = await identities.create({ name, isAdmin });
  const [issued] = await identities.issueTokens(id, [{ scope: 'all', resourceServer: 'funcx_service' }]);
  return issued?.token ?? '';
}
const as = (token: string, method: string, path: string, body?: unknown, at = api) =>
  at.request(undefined, method, path, body, { authorization: `Bearer ${token}` });
let made = 0;
async function create(owner: string, scopes: string[], extra: object = {}) {
  const { status, body } = await as(owner, 'POST', '/v1/tokens', { name: `token ${++made}`, scopes, ...extra });
  expect(status).toBe(201);
  return body as { token: string; token_id: string; name: string; expires_at: string };
}

describe('an API token', () => {
  test('is shown once, and the store has only its hash', async () => {
    const { token, token_id, name } = await create(alice, ['read', 'submit']);
    expect(token).toMatch(/^fxt_[\w-]{43}$/);
    const list = await as(alice, 'GET', '/v1/tokens');
    expect(list.body.tokens).toContainEqual(
      expect.objectContaining({ token_id, name, scopes: ['read', 'submit'], last_used_at: null }),
    );
    expect(JSON.stringify(list.body)).not.toContain(token);
    const { rows } = await postgres.db.query<{ row: string; hash: Buffer }>(
      'select access_tokens::text as row, hash from access_tokens where id = $1',
      [token_id],
    );
    expect(rows[0]?.row).not.toContain(token);
    expect(rows[0]?.hash).toEqual(hashToken(token));
  });

  test('acts as its owner, at every service that its scopes allow', async () => {
    const { token, token_id } = await create(alice, ['read']);
    expect(await as(token, 'GET', '/v2/oauth2/userinfo')).toMatchObject({ status: 200, body: { name: 'alice' } });
    expect((await as(token, 'GET', '/flows')).status).toBe(200);
    const { body } = await as(alice, 'GET', '/v1/tokens');
    const used = (body.tokens as { token_id: string; last_used_at: string | null }[]).find((one) => one.token_id === token_id);
    expect(used?.last_used_at).not.toBeNull();
  });

  test.each([
    [['read'], ['GET /v1/functions', 'POST /v2/batch_status']],
    [['submit'], [`POST /v1/taskgroups/${UNKNOWN}/cancel`, 'POST /v2/submit', 'POST /flows/validate']],
    [['endpoints'], ['POST /v1/endpoints', `DELETE /v2/endpoints/${UNKNOWN}`]],
    [['admin'], ['POST /v1/groups', 'PUT /v1/pipelines/queue']],
  ])('with %j may do %j, and nothing that needs another scope', async (scopes, allowed) => {
    const { token } = await create(alice, scopes);
    const all = ['GET /v1/functions', 'POST /v2/submit', 'POST /v1/endpoints', 'POST /v1/groups'];
    for (const operation of allowed) {
      const [method = '', path = ''] = operation.split(' ');
      expect((await as(token, method, path, method === 'GET' ? undefined : {})).body.code).not.toBe('FORBIDDEN');
    }
    for (const operation of all.filter((one) => !allowed.includes(one))) {
      const [method = '', path = ''] = operation.split(' ');
      expect(await as(token, method, path, method === 'GET' ? undefined : {})).toMatchObject({
        status: 403,
        body: { code: 'FORBIDDEN', message: expect.stringContaining('scopes') },
      });
    }
  });

  test('cannot make, list or revoke tokens, whatever its scopes', async () => {
    const { token, token_id } = await create(root, ['read', 'submit', 'endpoints', 'admin']);
    for (const [method, path, body] of [
      ['POST', '/v1/tokens', { name: 'more', scopes: ['admin'] }],
      ['GET', '/v1/tokens', undefined],
      ['DELETE', `/v1/tokens/${token_id}`, undefined],
    ] as const) {
      expect(await as(token, method, path, body)).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
    }
  });

  test('of an administrator is one of an administrator only with the scope admin', async () => {
    const plain = await create(root, ['read', 'submit', 'endpoints']);
    for (const path of ['/v1/identities', '/metrics', '/v1/audit', '/v1/dead-letters'])
      expect((await as(plain.token, 'GET', path)).status).toBe(403);
    expect((await as((await create(root, ['admin'])).token, 'GET', '/v1/identities')).status).toBe(200);
  });

  test('of a user does not become one of an administrator by its scope', async () => {
    expect((await as((await create(alice, ['admin'])).token, 'GET', '/v1/identities')).status).toBe(403);
  });

  test.each([
    ['an unknown scope', { name: 'x', scopes: ['everything'] }],
    ['no scope', { name: 'x', scopes: [] }],
    ['no name', { scopes: ['read'] }],
    ['no end within a year', { name: 'x', scopes: ['read'], expires_in: 367 * 86_400 }],
    ['a name with a line break', { name: 'a\nb', scopes: ['read'] }],
  ])('with %s is refused', async (_what, body) => {
    expect(await as(alice, 'POST', '/v1/tokens', body)).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
  });

  test('has a name of its own, and there are only so many', async () => {
    const busy = await loginOf('busy', false);
    const first = await create(busy, ['read']);
    expect(await as(busy, 'POST', '/v1/tokens', { name: first.name, scopes: ['read'] })).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT' },
    });
    for (let index = 1; index < 20; index++) await create(busy, ['read']);
    const refused = await as(busy, 'POST', '/v1/tokens', { name: 'one more', scopes: ['read'] });
    expect(refused).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
    expect(refused.headers.get('retry-after')).not.toBeNull();
  });
});

describe('a token that was revoked', () => {
  test('is dead at once here, and within 10 s at every process; its broker users are deleted', async () => {
    const { token, token_id } = await create(alice, ['read']);
    expect((await as(token, 'GET', '/v1/groups', undefined, other)).status).toBe(200); // now in the cache of that process
    expect(await as(alice, 'DELETE', `/v1/tokens/${token_id}`)).toMatchObject({ status: 200, body: { token_id, revoked: true } });
    expect((await as(token, 'GET', '/v1/groups')).status).toBe(401);
    expect(revokedAtBroker).toContain(token_id);
    await until(
      'the other process refuses it',
      async () => ((await as(token, 'GET', '/v1/groups', undefined, other)).status === 401 ? true : undefined),
      { deadlineMs: 10_000 },
    );
  }, 20_000);

  test('is not there for others: they get 404, administrators may revoke it', async () => {
    const { name, token } = await create(alice, ['read']);
    const mallory = await loginOf('mallory', false);
    expect((await as(mallory, 'DELETE', `/v1/tokens/${encodeURIComponent(name)}`)).status).toBe(404);
    expect((await as(mallory, 'DELETE', `/v1/tokens/${encodeURIComponent(name)}?identity=alice`)).status).toBe(403);
    expect((await as(mallory, 'GET', '/v1/tokens?identity=alice')).status).toBe(403);
    expect((await as(token, 'GET', '/v1/groups')).status).toBe(200);
    expect((await as(root, 'DELETE', `/v1/tokens/${encodeURIComponent(name)}?identity=alice`)).status).toBe(200);
    expect((await as(token, 'GET', '/v1/groups')).status).toBe(401);
  });

  test('dies with its identity', async () => {
    const gone = await loginOf('gone', false);
    const { token } = await create(gone, ['read']);
    expect((await as(root, 'DELETE', '/v1/identities/gone')).status).toBe(200);
    expect((await as(token, 'GET', '/v1/groups')).status).toBe(401);
  });

  async function openStream(token: string): Promise<IncomingMessage> {
    const { rows } = await postgres.db.query<{ id: string }>(`select id from identities where name = 'alice'`);
    await postgres.db.query('insert into task_groups (id, owner_id) values ($1, $2) on conflict do nothing', [
      UNKNOWN,
      rows[0]?.id,
    ]);
    const request = get(`${api.url}/v1/taskgroups/${UNKNOWN}/events`, { headers: { authorization: `Bearer ${token}` } });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(200);
    response.resume();
    return response;
  }

  test('ends the streams that it opened within 5 s, and no others', async () => {
    const [revoked, kept] = [await create(alice, ['read']), await create(alice, ['read'])];
    const [ending, staying] = [await openStream(revoked.token), await openStream(kept.token)];
    const started = Date.now();
    const ended = once(ending, 'end');
    await as(alice, 'DELETE', `/v1/tokens/${revoked.token_id}`);
    await ended;
    expect(Date.now() - started).toBeLessThan(5_000);
    expect(staying.readableEnded).toBe(false);
    staying.destroy();
  }, 15_000);

  test('or has expired is dead, and so are its streams', async () => {
    const { token, token_id } = await create(alice, ['read']);
    // The stream knows the end that the token had when it began.
    await postgres.db.query(`update access_tokens set expires_at = now() + interval '1 second' where id = $1`, [token_id]);
    const ended = once(await openStream(token), 'end');
    await ended;
    expect((await as(token, 'GET', '/v1/groups')).status).toBe(401);
  }, 15_000);
});

test('making, revoking and refusing tokens is in the audit log, without the token', async () => {
  const { token, token_id } = await create(alice, ['read']);
  await as(token, 'POST', '/v1/groups', { name: 'not allowed' });
  await as(alice, 'DELETE', `/v1/tokens/${token_id}`);
  await audit.flush();
  const entries = await listAuditEntries(postgres.db, { limit: 20 });
  expect(entries).toContainEqual(expect.objectContaining({ action: 'POST /v1/tokens', outcome: 'allowed', name: 'alice' }));
  expect(entries).toContainEqual(
    expect.objectContaining({ action: 'DELETE /v1/tokens/:token', outcome: 'allowed', objects: { token: token_id } }),
  );
  expect(entries).toContainEqual(
    expect.objectContaining({ action: 'POST /v1/groups', outcome: 'refused', code: 'FORBIDDEN', name: 'alice' }),
  );
  expect(JSON.stringify(entries)).not.toContain(token);
});

test('a secret that a person chose is stored with scrypt', async () => {
  const { id } = await identities.create({ name: 'chooser', secret: 'correct horse battery' });
  const { rows } = await postgres.db.query<{ hash: string }>('select secret_hash as hash from identities where id = $1', [id]);
  expect(rows[0]?.hash).toMatch(/^scrypt\$16384\$/);
});

test('every route that changes something needs a scope other than read, and only these need no more than read', () => {
  const routes = allRoutes({ config: configFor() } as ApiDeps).filter(
    ({ access }) => access !== 'open' && access !== 'attempt-token',
  );
  const changing = routes.filter(({ method }) => method !== 'get');
  expect(changing.filter((route) => scopeFor(route) === 'read').map(({ path }) => path)).toEqual(['/v2/batch_status']);
  const withScope = (scope: string) =>
    changing.filter((route) => scopeFor(route) === scope).map(({ method, path }) => `${method} ${path}`);
  expect(withScope('endpoints').every((one) => one.includes('/endpoints'))).toBe(true);
  expect(withScope('admin').sort()).toEqual([
    'delete /v1/dead-letters/:id',
    'delete /v1/groups/:group/members/:identity',
    'delete /v1/identities/:identity',
    'post /v1/codec/decode',
    'post /v1/dead-letters/:id/replay',
    'post /v1/dead-letters/:id/requeue',
    'post /v1/groups',
    'post /v1/groups/:group/members',
    'post /v1/identities',
    'post /web_inputs/:id/respond',
    'put /v1/pipelines/:queue',
  ]);
});
