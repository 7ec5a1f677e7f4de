import { exportSPKI, importJWK, SignJWT, UnsecuredJWT, type CryptoKey } from 'jose';

import { createIdentities } from '../../platform/identities';
import { createIdentityProvider } from '../../platform/oidc/provider';
import { configFor, startApi, type ApiHarness } from '../helpers/api-harness';
import { AUDIENCE, makeKey, TestProvider } from '../helpers/oidc-provider';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** Access tokens of an OpenID Connect provider: which are accepted, as whom, and how each other one is refused. */

const users = {
  'subject-of-alice': { name: 'Alice', groups: ['physics'] },
  'subject-of-olga': { name: 'olga', groups: ['operators'] },
  'subject-of-other-alice': { name: 'alice', groups: [] },
};
const HOUR_S = 3_600;
const nowS = (): number => Math.floor(Date.now() / 1_000);

let provider: TestProvider;
let postgres: ScratchPostgres;
let api: ApiHarness;

async function start(extra: Record<string, string> = {}): Promise<ApiHarness> {
  const config = configFor(provider.variables(extra));
  const identityProvider = createIdentityProvider(config, { keysPauseMs: 0 });
  const identities = createIdentities(postgres.db, { provider: identityProvider });
  return startApi({ db: postgres.db, config, deps: { identities, identityProvider } });
}

beforeAll(async () => {
  [provider, postgres] = await Promise.all([TestProvider.start({ users }), startScratchPostgres()]);
  api = await start();
}, 60_000);
afterAll(async () => {
  await api?.close();
  await Promise.all([provider?.stop(), postgres?.stop()]);
});

const as = (token: string, method: string, path: string, body?: unknown, at = api) =>
  at.request(undefined, method, path, body, { authorization: `Bearer ${token}` });
const whoIs = async (token: string, at = api) => as(token, 'GET', '/v2/oauth2/userinfo', undefined, at);

describe('a token of the provider', () => {
  test('is accepted, and its subject is the same identity each time', async () => {
    const first = await whoIs(await provider.sign('subject-of-alice'));
    expect(first).toMatchObject({ status: 200, body: { name: 'alice@localhost' } });
    const renamed = await whoIs(await provider.sign('subject-of-alice', { preferred_username: 'admin' }));
    expect(renamed.body).toMatchObject({ sub: first.body.sub, name: 'alice@localhost' });
  });

  test('that the provider itself issued is accepted as well', async () => {
    expect(await whoIs(await provider.tokenOfRobot())).toMatchObject({ status: 200, body: { name: 'robot@localhost' } });
  });

  test('of another subject with the same name is another identity with another name', async () => {
    const alice = await whoIs(await provider.sign('subject-of-alice'));
    const other = await whoIs(await provider.sign('subject-of-other-alice'));
    expect(other.body.sub).not.toBe(alice.body.sub);
    expect(other.body.name).toMatch(/^alice-[0-9a-f]{8}@localhost$/);
  });

  test('seen first in many requests at the same time makes one identity', async () => {
    const token = await provider.sign('subject-of-many');
    const answers = await Promise.all(Array.from({ length: 20 }, () => whoIs(token)));
    expect(new Set(answers.map(({ body }) => body.sub as string)).size).toBe(1);
  });

  test('is of an administrator only while its groups have the configured one', async () => {
    expect((await as(await provider.sign('subject-of-olga'), 'GET', '/v1/identities')).status).toBe(200);
    expect((await as(await provider.sign('subject-of-alice'), 'GET', '/v1/identities')).status).toBe(403);
    const left = await provider.sign('subject-of-olga', { groups: undefined });
    expect((await as(left, 'GET', '/v1/identities')).status).toBe(403);
  });

  test('makes its identity a member of the groups that are tied to its groups, until it names them no more', async () => {
    const olga = await provider.sign('subject-of-olga');
    const made = await as(olga, 'POST', '/v1/groups', { name: 'physicists', provider_group: 'physics' });
    expect(made).toMatchObject({ status: 201, body: { provider_group: 'physics' } });
    const groupsOf = async (changed = {}) => {
      const { body } = await as(await provider.sign('subject-of-alice', changed), 'GET', '/v1/groups');
      return (body.groups as { name: string }[]).map(({ name }) => name);
    };
    expect(await groupsOf()).toEqual(['physicists']);
    expect(await groupsOf({ groups: ['chemistry'] })).toEqual([]);
  });

  test('of a revoked identity is refused', async () => {
    const token = await provider.sign('subject-of-eve', { jti: 'first' });
    const { sub } = (await whoIs(token)).body as { sub: string };
    const olga = await provider.sign('subject-of-olga');
    expect((await as(olga, 'DELETE', `/v1/identities/${sub}`)).status).toBe(200);
    for (const one of [token, await provider.sign('subject-of-eve', { jti: 'second' })])
      expect(await whoIs(one)).toMatchObject({ status: 401, body: { message: expect.stringContaining('was revoked') } });
  });

  test('has no secret here, so nobody gets a token for its identity by guessing one', async () => {
    const { sub } = (await whoIs(await provider.sign('subject-of-alice'))).body as { sub: string };
    for (const secret of ['', 'x', 'null']) {
      const form = new URLSearchParams({ grant_type: 'client_credentials' });
      const authorization = `Basic ${Buffer.from(`${sub}:${secret}`).toString('base64')}`;
      expect((await api.request(undefined, 'POST', '/v2/oauth2/token', form, { authorization })).status).toBe(401);
    }
  });

  test('is accepted within the tolerance for clocks', async () => {
    expect((await whoIs(await provider.sign('subject-of-alice', { exp: nowS() - 10, jti: 'late' }))).status).toBe(200);
    expect((await whoIs(await provider.sign('subject-of-alice', { nbf: nowS() + 10, jti: 'early' }))).status).toBe(200);
  });

  test('gives access to the flows as well', async () => {
    expect((await as(await provider.sign('subject-of-alice'), 'GET', '/flows')).status).toBe(200);
  });
});

describe('a token is refused that', () => {
  const refused = async (token: string, sentence: RegExp) => {
    const answer = await whoIs(token);
    expect(answer).toMatchObject({ status: 401, body: { code: 'UNAUTHENTICATED', message: expect.stringMatching(sentence) } });
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  };

  test('has expired', async () => refused(await provider.sign('subject-of-alice', { exp: nowS() - HOUR_S }), /has expired/));
  test('never expires', async () => refused(await provider.sign('subject-of-alice', { exp: undefined }), /has no claim "exp"/));
  test('is not valid yet', async () =>
    refused(await provider.sign('subject-of-alice', { nbf: nowS() + HOUR_S }), /not valid yet; check the clocks/));
  test('is for another service', async () =>
    refused(
      await provider.sign('subject-of-alice', { aud: 'https://other.example' }),
      /for another service.*https:\/\/funcx\.example/,
    ));
  test('is for no service in particular', async () =>
    refused(await provider.sign('subject-of-alice', { aud: undefined }), /has no claim "aud"/));
  test('names another issuer', async () =>
    refused(await provider.sign('subject-of-alice', { iss: 'https://evil.example' }), /is of another provider/));
  test('names no subject', async () => refused(await provider.sign('', { sub: undefined }), /has no claim "sub"/));
  test('is an ID token, as Keycloak marks it', async () =>
    refused(await provider.sign('subject-of-alice', { typ: 'ID' }), /of the kind ID; send an access token/));
  test('is bound to a key', async () =>
    refused(await provider.sign('subject-of-alice', { cnf: { jkt: 'x' } }), /is bound to a key/));

  test('has no signature (alg: none)', async () => {
    const none = new UnsecuredJWT({ groups: ['operators'] })
      .setIssuer(provider.issuer)
      .setSubject('subject-of-olga')
      .setAudience(AUDIENCE)
      .setExpirationTime('10 min')
      .encode();
    await refused(none, /has no signature that the provider/);
    const [, payload] = none.split('.');
    for (const alg of ['None', 'NONE', 'nOnE', '']) {
      const header = Buffer.from(JSON.stringify({ alg })).toString('base64url');
      await refused(`${header}.${payload}.`, /has no signature that the provider/);
    }
  });

  test('is signed with the public key as if it were a shared secret (HS256)', async () => {
    const pem = await exportSPKI((await importJWK(provider.publicKey, 'RS256', { extractable: true })) as CryptoKey);
    const forged = await new SignJWT({ sub: 'subject-of-olga', iss: provider.issuer, aud: AUDIENCE, exp: nowS() + 600 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(Buffer.from(pem));
    await refused(forged, /has no signature that the provider/);
  });

  test('is signed by a key of somebody else', async () => {
    const key = await makeKey('RS256');
    await refused(await provider.sign('subject-of-olga', {}, { key }), /signed by a key that .* does not publish/);
    const { kid } = JSON.parse(
      Buffer.from((await provider.sign('subject-of-olga')).split('.')[0]!, 'base64url').toString(), // a JWT has a header
    ) as { kid: string };
    await refused(
      await provider.sign('subject-of-olga', {}, { key: { ...key, kid } }),
      /the signature of the access token is wrong/,
    );
  });

  test('has other claims than were signed', async () => {
    const [header, , signature] = (await provider.sign('subject-of-alice')).split('.');
    const payload = (await provider.sign('subject-of-olga')).split('.')[1];
    await refused(`${header}.${payload}.${signature}`, /the signature of the access token is wrong/);
  });

  test.each([
    ['three short parts', 'a.b.c'],
    ['three empty parts', '..'],
    ['a header alone', 'eyJhbGciOiJSUzI1NiJ9..'],
    ['one word', 'not-a-token'],
    ['a long header', `${'a'.repeat(4_000)}.b.c`],
  ])('is no token: %s', async (_name, text) => {
    expect((await whoIs(text)).status).toBe(401);
  });
});

describe('the provider', () => {
  test('may change its keys: new tokens are accepted, old ones are refused', async () => {
    const old = await provider.sign('subject-of-alice', { jti: 'old' });
    await provider.rotateKeys();
    expect((await whoIs(await provider.sign('subject-of-alice'))).status).toBe(200);
    expect(await whoIs(old)).toMatchObject({ status: 401, body: { message: expect.stringContaining('does not publish') } });
  });

  test('may be away: keys that are known still serve, and what needs it gets 503 with its name', async () => {
    const known = await provider.sign('subject-of-alice', { jti: 'known' });
    await provider.stop();
    expect((await whoIs(known)).status).toBe(200);
    const fresh = await start();
    const answer = await whoIs(known, fresh);
    expect(answer).toMatchObject({
      status: 503,
      body: { code: 'UNAVAILABLE', message: expect.stringContaining(`the identity provider ${provider.issuer} does not answer`) },
    });
    expect(answer.headers.get('retry-after')).not.toBeNull();
    await provider.run();
    await fresh.close();
  });

  test('may be limited to groups: other users get 403', async () => {
    const limited = await start({ FUNCX_OIDC_ALLOWED_GROUPS: 'physics, operators' });
    expect((await whoIs(await provider.sign('subject-of-alice'), limited)).status).toBe(200);
    expect(await whoIs(await provider.sign('subject-of-other-alice'), limited)).toMatchObject({
      status: 403,
      body: { code: 'FORBIDDEN', message: expect.stringContaining('none of your groups') },
    });
    await limited.close();
  });

  test('may name groups in nested claims, as Keycloak does', async () => {
    const nested = await start({ FUNCX_OIDC_GROUPS_CLAIM: 'realm_access.roles,groups' });
    const token = await provider.sign('subject-of-alice', { realm_access: { roles: ['operators'] } });
    expect((await as(token, 'GET', '/v1/identities', undefined, nested)).status).toBe(200);
    await nested.close();
  });

  test('must name an audience in the configuration, and an address that nobody can listen to', () => {
    expect(() => configFor({ FUNCX_OIDC_ISSUER: provider.issuer })).toThrow('FUNCX_OIDC_AUDIENCE');
    expect(() => configFor({ FUNCX_OIDC_ISSUER: 'http://login.example', FUNCX_OIDC_AUDIENCE: 'x' })).toThrow('https://');
  });
});

describe('opaque tokens', () => {
  test('are looked up at the provider, if the configuration says so', async () => {
    const opaque = await TestProvider.start({ users, format: 'opaque' });
    const extra = { ...opaque.variables(), FUNCX_OIDC_INTROSPECTION: '1' };
    const asking = await start(extra);
    const token = await opaque.tokenOfUser('subject-of-olga');
    expect(token.split('.')).toHaveLength(1);
    expect(await whoIs(token, asking)).toMatchObject({ status: 200, body: { name: expect.stringMatching(/^olga/) } });
    expect(await whoIs('made-up', asking)).toMatchObject({ status: 401, body: { message: expect.stringContaining('unknown') } });
    expect((await whoIs(token)).status).toBe(401);
    await asking.close();
    await opaque.stop();
  }, 30_000);
});
