import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { confirmDevice, TestProvider } from '../helpers/oidc-provider';
import { ownApi, type OwnApi } from '../helpers/own-api';
import { funcx, startFuncx, state } from '../helpers/system';
import { until } from '../helpers/until';

/** `funcx login` by the device flow at a real OpenID Connect provider, and the commands after it. */

const XDG_CONFIG_HOME = mkdtempSync(join(tmpdir(), 'funcx-login-'));
const file = join(XDG_CONFIG_HOME, 'funcx', 'login.json');
let provider: TestProvider;
let api: OwnApi;

beforeAll(async () => {
  provider = await TestProvider.start({ users: { 'subject-of-olga': { name: 'olga', groups: ['operators'] } } });
  api = await ownApi(provider.variables());
});
afterAll(async () => {
  await api?.close();
  await provider?.stop();
  rmSync(XDG_CONFIG_HOME, { recursive: true, force: true });
});

const run = (...args: string[]) => funcx(args, { XDG_CONFIG_HOME });
const saved = (): Record<string, string> => JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;

test('"login" shows an address and a code; afterwards commands act as the user, until "logout"', async () => {
  const login = startFuncx(['login', api.url, '--json'], { XDG_CONFIG_HOME });
  const address = await until('the address is shown', () => /Open (\S+) and confirm the code \S+\./.exec(login.stderr())?.[1]);
  await confirmDevice(address);
  expect(await login.exit).toBe(0);
  expect(JSON.parse(login.stdout())).toMatchObject({ api_url: api.url, name: 'olga@localhost' });
  expect(statSync(file).mode & 0o077).toBe(0);

  // The group of the provider makes an administrator.
  expect(run('identity', 'list').stdout).toContain('olga@localhost');
  expect(run('flow', 'list', '--json')).toMatchObject({ status: 0 });

  // An access token that ends soon is renewed.
  const before = saved();
  writeFileSync(file, JSON.stringify({ ...before, expires_at: new Date().toISOString() }));
  expect(run('limits')).toMatchObject({ status: 0, stderr: '' });
  expect(saved().access_token).not.toBe(before.access_token);

  writeFileSync(file, JSON.stringify({ ...before, refresh_token: 'used', expires_at: new Date().toISOString() }));
  expect(run('limits')).toMatchObject({ status: 1, stderr: expect.stringContaining('run "funcx login') });

  expect(run('logout')).toMatchObject({ status: 0, stdout: 'Logged out.\n' });
  expect(JSON.parse(run('env', '--json').stdout)).toMatchObject({ FUNCX_API_URL: state().api_url });
  expect(run('identity', 'list')).toMatchObject({ status: 0 });
});

test('"login" at a service without a provider says so', () => {
  expect(run('login')).toMatchObject({ status: 1, stderr: expect.stringContaining('log in with an identity of this service') });
});
