import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findConnection } from '../../cli/connection';
import { printFields, printTable } from '../../cli/output';
import { layoutOf } from '../../local/machine/layout';
import { writeState, type SystemState } from '../../local/setup/state';

/** Which service the command line talks to, and what it prints of others. */

const VARIABLES = [
  'FUNCX_API_URL',
  'FUNCX_CLIENT_ID',
  'FUNCX_CLIENT_SECRET',
  'FUNCX_TOKEN',
  'FUNCX_CA',
  'XDG_CONFIG_HOME',
] as const;
const given = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
const dataDir = mkdtempSync(join(tmpdir(), 'funcx-connection-'));
const OURS = 'http://localhost:5000';

function setEnvironment(values: Partial<Record<(typeof VARIABLES)[number], string>>): void {
  for (const name of VARIABLES) delete process.env[name];
  Object.assign(process.env, { XDG_CONFIG_HOME: join(dataDir, 'config') }, values);
}

function logIn(apiUrl: string): void {
  mkdirSync(join(dataDir, 'config', 'funcx'), { recursive: true });
  const login = {
    api_url: apiUrl,
    ca_file: null,
    issuer: 'https://idp.example',
    client_id: 'cli',
    token_endpoint: 'https://idp.example/token',
    parameters: {},
    access_token: 'of-login',
    expires_at: '2100-01-01T00:00:00.000Z',
  };
  writeFileSync(join(dataDir, 'config', 'funcx', 'login.json'), JSON.stringify(login));
}

beforeAll(() => {
  const identity_file = join(dataDir, 'identity.json');
  writeFileSync(identity_file, JSON.stringify({ client_id: 'admin', client_secret: 'secret' }));
  const layout = layoutOf(dataDir);
  mkdirSync(layout.runDir, { recursive: true });
  writeState(layout, { version: 1, api_url: OURS, ca_file: null, identity_file } as SystemState);
});
beforeEach(() => rmSync(join(dataDir, 'config'), { recursive: true, force: true }));
afterAll(() => {
  for (const name of VARIABLES) {
    if (given[name] === undefined) delete process.env[name];
    else process.env[name] = given[name];
  }
  rmSync(dataDir, { recursive: true });
});

test('a command for a named service without credentials is refused, and does not go to the system of the data folder', () => {
  setEnvironment({ FUNCX_API_URL: 'https://funcx.example' });
  expect(() => findConnection(dataDir)).toThrow(
    'There are no credentials for https://funcx.example (FUNCX_API_URL): set FUNCX_TOKEN',
  );
  setEnvironment({ FUNCX_API_URL: `${OURS}/` });
  expect(findConnection(dataDir)).toMatchObject({ apiUrl: OURS, clientId: 'admin' });
  setEnvironment({});
  expect(findConnection(dataDir)).toMatchObject({ apiUrl: OURS, clientId: 'admin' });
});

test('FUNCX_TOKEN replaces the token of a saved login', () => {
  logIn('https://funcx.example');
  setEnvironment({ FUNCX_TOKEN: 'fxt_mine' });
  expect(findConnection(dataDir)).toMatchObject({ apiUrl: 'https://funcx.example', token: 'fxt_mine' });
  setEnvironment({});
  expect(typeof findConnection(dataDir).token).toBe('function');
});

test('text of others cannot control the terminal', () => {
  const write = jest.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    printTable(['NAME'], [['\x1b[2Jevil\u202e']]);
    printFields([['host', 'a\x9bb']]);
    expect(write.mock.calls.map(([text]) => text)).toEqual(['NAME\n', '·[2Jevil·\n', 'host  a·b\n']);
  } finally {
    write.mockRestore();
  }
});
