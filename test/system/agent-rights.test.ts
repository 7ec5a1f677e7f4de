import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { COMPUTE_SCOPE } from '../../contracts/scopes';
import { layoutOf } from '../../local/machine/layout';
import { readState } from '../../local/setup/state';
import { NO_SANDBOX, skipReason } from '../helpers/conditions';

/** What the agent of `up`, the functions that it runs and other identities may do; on a system with the default settings. */

const ROOT = join(__dirname, '..', '..');
const isRoot = process.getuid?.() === 0;

const SPY = `
def spy(data_dir):
    import glob, os
    seen = {'uid': os.getuid(), 'found': []}
    for path in glob.glob('/proc/[0-9]*/environ') + glob.glob(data_dir + '/secrets/*') + glob.glob(data_dir + '/run/*'):
        if path == '/proc/%d/environ' % os.getpid():
            continue
        try:
            text = open(path, 'rb').read()
        except OSError:
            continue
        if b'FUNCX_CLIENT_SECRET' in text or b'FUNCX_TOKEN_KEY' in text or b'client_secret' in text or '/secrets/' in path:
            seen['found'].append(path)
    seen['own'] = sorted(k for k in os.environ if 'SECRET' in k or 'TOKEN_KEY' in k)
    try:
        open(os.path.join(data_dir, 'endpoints', 'local', 'endpoint.json')).read()
        seen['found'].append('endpoint.json')
    except OSError:
        pass
    return seen
`;

(NO_SANDBOX === undefined ? describe : describe.skip)(`the endpoint that up starts${skipReason(NO_SANDBOX)}`, () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'funcx-rights-'));
  const source = join(dataDir, 'spy.py');
  let other: Record<string, string> = {};

  function funcx(args: string[], env: Record<string, string> = {}): { status: number | null; output: string } {
    const given = { ...process.env, FUNCX_WORKER_USER: undefined, ...env };
    const run = spawnSync(process.execPath, [join(ROOT, 'bin', 'funcx'), ...args], { encoding: 'utf8', env: given, cwd: ROOT });
    return { status: run.status, output: run.stdout + run.stderr };
  }
  const up = (...args: string[]): { status: number | null; output: string } =>
    funcx(['up', '--detach', '--private-ports', '--data-dir', dataDir, ...args]);
  const runSpy = (env: Record<string, string>): { status: number | null; output: string } =>
    funcx(
      [
        'run',
        `${source}:spy`,
        '--endpoint',
        '4b116d3c-1703-4f8f-9f6f-39921e5864df',
        '--args',
        JSON.stringify([dataDir]),
        '--json',
      ].concat('--data-dir', dataDir, '--timeout', '60'),
      env,
    );

  beforeAll(() => {
    const { status, output } = up('--public-tutorial');
    expect(status === 0 ? '' : output).toBe('');
    writeFileSync(source, SPY);
    const made = funcx(['identity', 'create', 'tenant', '--json', '--data-dir', dataDir]);
    const { client_id, client_secret } = JSON.parse(made.output) as Record<string, string>;
    const api = readState(layoutOf(dataDir))?.api_url ?? '';
    other = { FUNCX_API_URL: api, FUNCX_CLIENT_ID: client_id ?? '', FUNCX_CLIENT_SECRET: client_secret ?? '' };
  }, 200_000);

  afterAll(() => {
    funcx(['down', '--data-dir', dataDir]);
    rmSync(dataDir, { recursive: true, force: true });
  }, 100_000);

  test('a function of another identity finds none of the secrets of service, administrator and agent', () => {
    const { status, output } = runSpy(other);
    expect(status === 0 ? '' : output).toBe('');
    const { value } = JSON.parse(output) as { value: { uid: number; found: string[]; own: string[] } };
    expect(value).toMatchObject({ found: [], own: [] });
    if (isRoot) expect(value.uid).not.toBe(0);
  }, 100_000);

  test('the identity of the agent may serve its endpoint and do nothing else', async () => {
    const agent = JSON.parse(readFileSync(join(dataDir, 'secrets', 'agent-local.json'), 'utf8')) as Record<string, string>;
    const api = other.FUNCX_API_URL ?? '';
    const granted = await fetch(`${api}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${agent.client_id}:${agent.client_secret}`).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: COMPUTE_SCOPE }),
    });
    const { access_token } = (await granted.json()) as { access_token: string };
    const ask = async (method: string, path: string, body?: unknown): Promise<number> => {
      const headers = { authorization: `Bearer ${access_token}`, 'content-type': 'application/json' };
      return (await fetch(api + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).status;
    };
    const registration = { name: 'x', incarnation: '01a20d0b-7539-4699-abac-ed639e400001', workers: 1, metadata: {} };
    const refused = [
      await ask('GET', '/v2/endpoints'),
      await ask('GET', '/v1/submissions'),
      await ask('GET', '/v1/identities'),
      await ask('POST', '/v1/identities', { name: 'intruder', is_admin: true }),
      await ask('POST', '/v3/functions', { function_name: 'f', function_code: 'x' }),
      await ask('POST', '/v1/endpoints', registration),
      await ask('PUT', '/v1/endpoints/01a20d0b-7539-4699-abac-ed639e400002', registration),
      await ask('DELETE', `/v2/endpoints/${agent.endpoint_id}`),
    ];
    expect(refused).toEqual(refused.map(() => 403));
    // Its own endpoint: only the living agent is in the way.
    expect(await ask('PUT', `/v1/endpoints/${agent.endpoint_id}`, registration)).toBe(409);
  });

  test('an endpoint that others may use is separated at each start, not only when it is shared', () => {
    const separationOf = (...args: string[]): string[] => {
      const command = ['endpoint', 'start', 'lab', '--json', '--data-dir', dataDir, ...args];
      const { status, output } = funcx(command, { FUNCX_WORKER_USER: 'same' });
      expect(status === 0 ? '' : output).toBe('');
      const [{ pid }] = (JSON.parse(output) as { endpoints: [{ pid: number }] }).endpoints;
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      expect(funcx(['endpoint', 'stop', 'lab', '--data-dir', dataDir]).status).toBe(0);
      return environment.filter((variable) => /^FUNCX_WORKER_(USER=\d|HIDES=)/.test(variable));
    };
    const shared = separationOf('--public');
    expect(shared).not.toEqual([]);
    expect(separationOf()).toEqual(shared);
    expect(separationOf('--private')).toEqual([]);
  }, 200_000);

  test('an endpoint that was public is private after an ordinary start, which says how to share it', () => {
    expect(funcx(['down', '--data-dir', dataDir]).status).toBe(0);
    const { status, output } = up();
    expect(status === 0 ? '' : output).toBe('');
    expect(output).toContain('endpoint "local" was public and is now private');
    expect(output).toContain('--public-tutorial');
    const stranger = runSpy({ ...other, FUNCX_API_URL: readState(layoutOf(dataDir))?.api_url ?? '' });
    expect(stranger.status).toBe(1);
    expect(stranger.output).toMatch(/you may not use endpoint|ask its owner to share it/);
  }, 200_000);
});
