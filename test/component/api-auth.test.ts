import { FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';

const COMPUTE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
const alice = person('alice');
let api: ApiHarness;

beforeEach(async () => {
  api = await startApi({ db: new FakeDatabase().asDatabase(), people: [alice] });
});
afterEach(() => api.close());

const basic = (secret: string) => ({ authorization: `Basic ${Buffer.from(`${alice.id}:${secret}`).toString('base64')}` });
const ask = (scope: string, secret = 'secret of alice') =>
  api.request(
    undefined,
    'POST',
    '/v2/oauth2/token',
    new URLSearchParams({ grant_type: 'client_credentials', scope }),
    basic(secret),
  );

describe('access tokens', () => {
  test('scopes of one resource server get exactly one token', async () => {
    const { status, body } = await ask(`${COMPUTE} ${COMPUTE}`);
    expect(status).toBe(200);
    expect(body).toEqual({
      access_token: 'fx_0',
      scope: COMPUTE,
      expires_in: 172_800,
      token_type: 'Bearer',
      resource_server: 'funcx_service',
      other_tokens: [],
    });
  });

  test('further resource servers come as other tokens of the same shape', async () => {
    const { body } = await ask(`${COMPUTE} openid`);
    expect(body.other_tokens).toEqual([
      { access_token: 'fx_1', scope: 'openid', expires_in: 172_800, token_type: 'Bearer', resource_server: 'auth.globus.org' },
    ]);
  });

  test('a wrong secret is refused in the words of OAuth2 and in ours', async () => {
    expect(await ask(COMPUTE, 'wrong')).toMatchObject({
      status: 401,
      body: { error: 'invalid_client', code: 'UNAUTHENTICATED' },
    });
  });

  test('another grant than client credentials is refused', async () => {
    const form = new URLSearchParams({ grant_type: 'password' });
    expect(await api.request(undefined, 'POST', '/v2/oauth2/token', form, basic('secret of alice'))).toMatchObject({
      status: 422,
    });
  });

  test('userinfo names the identity as itself and in its set', async () => {
    const { body } = await api.request('alice', 'GET', '/v2/oauth2/userinfo');
    expect(body).toMatchObject({ sub: alice.id, name: 'alice', identity_set: [{ sub: alice.id }] });
  });

  test('the version needs no token, and no good one', async () => {
    for (const headers of [{}, { authorization: 'Bearer nonsense' }]) {
      const answer = await api.request(undefined, 'GET', '/v2/version?service=all', undefined, headers as Record<string, string>);
      expect(answer).toMatchObject({ status: 200, body: { min_sdk_version: '2.0.0', min_ep_version: '2.0.0' } });
    }
  });
});
