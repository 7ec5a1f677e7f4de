import { createHash } from 'node:crypto';

import type { LoginFields } from '../../api/auth/login-page';
import { createLoginStates } from '../../api/auth/login-state';
import { createIdentities } from '../../platform/identities';
import { createIdentityProvider } from '../../platform/oidc/provider';
import { configFor, startApi, TOKEN_KEY, type ApiHarness } from '../helpers/api-harness';
import { Browser } from '../helpers/browser';
import { TestProvider } from '../helpers/oidc-provider';
import { freePort } from '../helpers/own-api';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** The login page of Globus clients hands over to the OpenID Connect provider, and nobody can use the way for somebody else. */

const VERIFIER = 'v'.repeat(43);
const CLIENT_ID = '4cf29807-cf21-49ec-9443-ff9a3fb9f81c';
const SCOPE = 'openid https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';

let provider: TestProvider;
let postgres: ScratchPostgres;
let api: ApiHarness;
/** The address of the service, as the provider knows it. */
let service: string;
let redirectUri: string;

beforeAll(async () => {
  const port = await freePort();
  service = `http://localhost:${port}`;
  const users = { 'subject-of-olga': { name: 'olga', groups: ['operators'] } };
  [provider, postgres] = await Promise.all([TestProvider.start({ users, service }), startScratchPostgres()]);
  const config = configFor(provider.variables({ API_PUBLIC_URL: service, API_PORT: String(port) }));
  const identityProvider = createIdentityProvider(config);
  const identities = createIdentities(postgres.db, { provider: identityProvider });
  api = await startApi({ db: postgres.db, config, deps: { identities, identityProvider }, port });
  redirectUri = `${service}/v2/web/auth-code`;
}, 60_000);
afterAll(async () => {
  await api?.close();
  await Promise.all([provider?.stop(), postgres?.stop()]);
});

function authorizeAddress(): string {
  const query = new URLSearchParams({
    client_id: CLIENT_ID,
    redirect_uri: redirectUri,
    scope: SCOPE,
    state: '_default',
    response_type: 'code',
    code_challenge: createHash('sha256').update(VERIFIER).digest('base64url'),
    code_challenge_method: 'S256',
  });
  return `${service}/v2/oauth2/authorize?${query.toString()}`;
}
const codeOn = (page: string): string | undefined => /<code id="code">([^<]+)/.exec(page)?.[1];
const exchange = (form: Record<string, string>) => api.request(undefined, 'POST', '/v2/oauth2/token', new URLSearchParams(form));
const redeem = (code: string) =>
  exchange({ grant_type: 'authorization_code', client_id: CLIENT_ID, code, code_verifier: VERIFIER, redirect_uri: redirectUri });

/** Ends at the service's page, and keeps the address with which the provider sent the browser back. */
async function logIn(browser = new Browser()): Promise<Browser> {
  await browser.open(authorizeAddress());
  return browser.submit('/v2/oauth2/authorize/provider');
}

test('a Globus client gets tokens of the user of the provider, and the user sees the program first', async () => {
  const browser = await new Browser().open(authorizeAddress());
  expect(browser.page).toContain('<strong>Globus Compute client</strong>');
  expect(browser.page).toContain(`Log in at localhost:${provider.port}`);
  expect(browser.page).toContain('name="secret"'); // local identities stay
  await browser.submit('/v2/oauth2/authorize/provider');
  expect(browser.page).toContain('You are olga@localhost');
  const { status, body } = await redeem(codeOn(browser.page) ?? '');
  expect(status).toBe(200);
  const tokens = [body, ...body.other_tokens] as { access_token: string; refresh_token: string; resource_server: string }[];
  const compute = tokens.find(({ resource_server }) => resource_server === 'funcx_service');
  const list = await api.request(undefined, 'GET', '/v1/identities', undefined, {
    authorization: `Bearer ${compute?.access_token}`,
  });
  expect(list).toMatchObject({ status: 200, body: { identities: [{ name: 'olga@localhost', issuer: provider.issuer }] } });
});

test('the login ends after FUNCX_OIDC_LOGIN_DAYS, however often its refresh token rotates', async () => {
  const { body } = await redeem(codeOn((await logIn()).page) ?? '');
  const rotated = await exchange({ grant_type: 'refresh_token', refresh_token: body.refresh_token as string });
  expect(rotated.status).toBe(200);
  const { rows } = await postgres.db.query<{ days: number }>(
    `select extract(epoch from max(expires_at) - now())::float8 / 86400 as days from access_tokens where kind = 'refresh'`,
  );
  expect(rows[0]?.days).toBeLessThanOrEqual(30);
  await postgres.db.query(`update access_tokens set login_ends_at = now(), expires_at = now() where kind = 'refresh'`);
  const late = await exchange({ grant_type: 'refresh_token', refresh_token: rotated.body.refresh_token as string });
  expect(late.status).toBe(401);
});

describe('the way back from the provider', () => {
  test('works once', async () => {
    const browser = await logIn();
    const again = await browser.open(browser.url);
    expect(again.status).toBe(401);
    expect(codeOn(again.page)).toBeUndefined();
  });

  test('works only in the browser that began, so nobody is logged in as somebody else', async () => {
    const attacker = new Browser();
    await attacker.open(authorizeAddress());
    const cookieless = new Browser();
    cookieless.url = attacker.url;
    cookieless.page = attacker.page;
    await cookieless.submit('/v2/oauth2/authorize/provider');
    expect(cookieless.status).toBe(401);
    expect(cookieless.page).toContain('begun in another browser');

    const browser = await logIn();
    const victim = await new Browser().open(browser.url);
    expect(victim.status).toBe(401);
    expect(victim.page).toContain('begun in another browser');
  });

  test('refuses a state that was changed or is too old', async () => {
    const browser = await logIn();
    const url = new URL(browser.url);
    const state = url.searchParams.get('state') ?? '';
    const [text = '', signature = ''] = state.split('.');
    const content = JSON.parse(Buffer.from(text, 'base64url').toString()) as { fields: Record<string, string> };
    content.fields.client_id = 'another program';
    for (const changed of [`${Buffer.from(JSON.stringify(content)).toString('base64url')}.${signature}`, text, 'x.y', '']) {
      url.searchParams.set('state', changed);
      const { status, page } = await browser.open(url.toString());
      expect([status, codeOn(page)]).toEqual([401, undefined]);
    }
    let now = 0;
    const states = createLoginStates('key', () => now);
    const fields = { ...content.fields, client_id: 'x' } as unknown as LoginFields;
    const sealed = states.seal(fields, 'ticket');
    expect(states.open(sealed, 'ticket')).toMatchObject({ client_id: 'x' });
    now = 600_001;
    expect(states.open(sealed, 'ticket')).toBeUndefined();
  });

  test('refuses an answer of another provider, and shows why the provider refused', async () => {
    const fields = Object.fromEntries(new URL(authorizeAddress()).searchParams) as unknown as LoginFields;
    const state = createLoginStates(TOKEN_KEY).seal(fields, 'a-ticket');
    const back = async (query: Record<string, string>) => {
      const address = `${service}/v2/oauth2/callback?${new URLSearchParams({ state, ...query }).toString()}`;
      const response = await fetch(address, { headers: { cookie: 'other=1; funcx_login=a-ticket' } });
      return { status: response.status, page: await response.text() };
    };
    const evil = await back({ code: 'x', iss: 'https://evil.example' });
    expect(evil).toMatchObject({ status: 401, page: expect.stringContaining('came from another identity provider') });
    const denied = await back({ error: 'access_denied', error_description: '<b>not you</b>', iss: provider.issuer });
    expect(denied).toMatchObject({ status: 401, page: expect.stringContaining('refused the login: &#60;b&#62;not you') });
    const guessed = await back({ code: 'a guess' });
    expect(guessed).toMatchObject({ status: 401, page: expect.stringContaining('refused the login') });
  });
});

test('while the provider is away, the page says so with 503, and local identities can log in', async () => {
  const browser = await new Browser().open(authorizeAddress());
  await provider.stop();
  const config = configFor(provider.variables({ API_PUBLIC_URL: redirectUri }));
  const identityProvider = createIdentityProvider(config);
  const fresh = await startApi({ db: postgres.db, config, deps: { identityProvider } });
  await browser.open(authorizeAddress().replace(service, fresh.url));
  await browser.submit('/v2/oauth2/authorize/provider');
  expect(browser.status).toBe(503);
  expect(browser.page).toContain(`${provider.issuer} does not answer`);
  await fresh.close();
  await provider.run();
});

test('without a provider, the page has the form of local identities only', async () => {
  const local = await startApi({ db: postgres.db });
  const { page } = await new Browser().open(authorizeAddress().replace(service, local.url));
  expect(page).toContain('name="secret"');
  expect(page).not.toContain('authorize/provider');
  expect(await local.request(undefined, 'GET', '/v1/login')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
  await local.close();
});
