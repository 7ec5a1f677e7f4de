import crypto from 'node:crypto';

import { createGuessLimit } from '../../api/auth/guess-limit';
import { createIdentities } from '../../platform/identities';
import { hashSecret } from '../../platform/secrets';
import { FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';

/** Tokens of another service, guessed secrets, and the page on which users log in. */

const alice = person('alice');
const root = person('root', { isAdmin: true, resourceServer: 'auth.globus.org' });
let api: ApiHarness;
beforeEach(async () => {
  const people = [
    alice,
    root,
    person('auth', { resourceServer: 'auth.globus.org' }),
    person('flows', { resourceServer: 'flows.globus.org' }),
  ];
  api = await startApi({ db: new FakeDatabase().asDatabase(), people });
});
afterEach(() => api.close());

describe('a token', () => {
  test.each(['auth', 'flows', 'root'])(
    'for another service (%s) is refused by the routes of functions, tasks and administrators',
    async (who) => {
      const id = '11111111-2222-4333-8444-555555555555';
      for (const [method, path] of [
        ['GET', `/v2/functions/${id}`],
        ['POST', '/v2/submit'],
        ['GET', `/v2/tasks/${id}`],
        ['GET', '/v2/get_amqp_result_connection_url'],
        ['GET', '/v1/identities'],
        ['GET', '/metrics'],
      ] as const) {
        expect(await api.request(who, method, path)).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
      }
    },
  );

  test('for the identity service still tells whose it is', async () => {
    expect(await api.request('auth', 'GET', '/v2/oauth2/userinfo')).toMatchObject({ status: 200, body: { name: 'auth' } });
  });
});

test('a request for tokens names at most so many scopes', async () => {
  const ask = (scope: string) =>
    api.request(undefined, 'POST', '/v2/oauth2/token', new URLSearchParams({ grant_type: 'client_credentials', scope }), {
      authorization: `Basic ${Buffer.from(`${alice.id}:secret of alice`).toString('base64')}`,
    });
  const scopes = (count: number, of: (n: number) => string) => Array.from({ length: count }, (_, n) => of(n)).join(' ');
  const services = (count: number) => scopes(count, (n) => `urn:globus:auth:scope:s${n}:all`);
  const granted = await ask(services(50));
  expect(granted.status).toBe(200);
  expect(granted.body.other_tokens).toHaveLength(49);
  for (const scope of [services(51), scopes(101, (n) => `urn:globus:auth:scope:one:s${n}`)]) {
    const refused = await ask(scope);
    expect(refused).toMatchObject({ status: 400, body: { code: 'INVALID_SCOPE' } });
    expect(refused.body.message).toMatch(/100 scopes of 50 resource servers/);
  }
});

describe('guesses of a secret', () => {
  const guess = (secret: string) =>
    api.request(undefined, 'POST', '/v2/oauth2/token', new URLSearchParams({ grant_type: 'client_credentials' }), {
      authorization: `Basic ${Buffer.from(`${alice.id}:${secret}`).toString('base64')}`,
    });

  test('are refused with 429 after ten wrong ones', async () => {
    for (let index = 0; index < 10; index++) expect((await guess(`wrong ${index}`)).status).toBe(401);
    const refused = await guess('secret of alice');
    expect(refused).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  test('are forgotten after a minute, and do not lock the identity at other addresses', () => {
    let now = 0;
    const limit = createGuessLimit(() => now);
    for (let index = 0; index < 10; index++) limit.failed('10.0.0.1', 'alice');
    expect(() => limit.check('10.0.0.1', 'alice')).toThrow('too many wrong secrets');
    expect(() => limit.check('10.0.0.2', 'alice')).not.toThrow();
    expect(() => limit.check('10.0.0.1', 'bob')).not.toThrow();
    now = 60_001;
    expect(() => limit.check('10.0.0.1', 'alice')).not.toThrow();
  });

  test('of many identities from one address are refused as well', () => {
    const limit = createGuessLimit(() => 0);
    for (let index = 0; index < 100; index++) limit.failed('10.0.0.1', `identity ${index}`);
    expect(() => limit.check('10.0.0.1', 'somebody')).toThrow('too many wrong secrets');
  });
});

test('a wrong secret costs the same work whether the identity exists, has a secret or was revoked', async () => {
  const [local, ofProvider] = ['11111111-2222-4333-8444-000000000001', '11111111-2222-4333-8444-000000000002'];
  const hash = await hashSecret('the right secret');
  const rows: Record<string, object[]> = {
    [local]: [{ id: local, name: 'local', secret_hash: hash }],
    [ofProvider]: [{ id: ofProvider, name: 'of a provider', secret_hash: null }],
  };
  const db = new FakeDatabase().on(
    'secret_hash from identities',
    ([id]) => (rows[String(id)] ?? []) as Record<string, unknown>[],
  );
  const identities = createIdentities(db.asDatabase());
  await identities.authenticateClient(local, 'wrong'); // the hash for unknown identities is made by now
  const work = jest.spyOn(crypto, 'scrypt');
  const costs: number[] = [];
  for (const id of [local, ofProvider, '11111111-2222-4333-8444-000000000003']) {
    work.mockClear();
    expect(await identities.authenticateClient(id, 'wrong')).toBeUndefined();
    costs.push(work.mock.calls.length);
  }
  work.mockRestore();
  expect(costs).toEqual([1, 1, 1]);
});

describe('the login page', () => {
  const query = (extra: Record<string, string>) =>
    new URLSearchParams({
      client_id: '4cf29807-cf21-49ec-9443-ff9a3fb9f81c',
      redirect_uri: 'http://localhost:5000/v2/web/auth-code',
      response_type: 'code',
      code_challenge: 'a'.repeat(43),
      code_challenge_method: 'S256',
      ...extra,
    }).toString();

  test('names the program that asks, and what it asks for', async () => {
    const scope =
      'openid https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all urn:globus:auth:scope:search.api.globus.org:all';
    const { body } = await api.request(undefined, 'GET', `/v2/oauth2/authorize?${query({ scope })}`);
    expect(body).toContain('<strong>Globus Compute client</strong>');
    expect(body).toContain('<li>your functions, endpoints, tasks and results</li>');
    expect(body).toContain('<li>urn:globus:auth:scope:search.api.globus.org:all</li>');
  });

  test('shows names of programs and scopes as text, not as markup', async () => {
    const { body } = await api.request(
      undefined,
      'GET',
      `/v2/oauth2/authorize?${query({ client_id: '<script>1</script>', scope: 'urn:globus:auth:scope:<b>:x' })}`,
    );
    expect(body).not.toContain('<script>');
    expect(body).not.toContain('<b>');
  });
});
