import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

import { signBodyToken } from '../../platform/body-tokens';
import { configFor, FakeDatabase, person, startApi, TOKEN_KEY, type ApiHarness } from '../helpers/api-harness';
import { until } from '../helpers/until';

/** Request bodies that try to use up the time and memory of the API. */

let api: ApiHarness;
jest.setTimeout(60_000);
beforeEach(async () => {
  const people = [person('alice'), person('mallory'), person('trudy')];
  api = await startApi({ db: new FakeDatabase().asDatabase(), people, config: configFor() });
});
afterEach(() => api.close());

const ID = '11111111-2222-4333-8444-555555555555';
const TASK = '019a20d0-0000-8000-8000-000000000001';
const GZIP = { 'content-encoding': 'gzip', 'content-type': 'application/json' };
/** 61 KB that become 60 MB. */
const BOMB = gzipSync(`{"tasks":{"${ID}":[${'{},'.repeat(20_000_000)}{}]}}`, { level: 6 });

/** Sends the head of a request with a body of unknown length, but no byte of the body. */
async function openBody(path: string, headers: string[] = []): Promise<Socket> {
  const { hostname, port } = new URL(api.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write([`POST ${path} HTTP/1.1`, `host: ${hostname}`, 'transfer-encoding: chunked', ...headers, '', ''].join('\r\n'));
  return socket;
}

/** Sends the head of a request, but no byte of its body; returns the status line of the response. */
async function statusBeforeBody(path: string, headers: string[]): Promise<string> {
  const { hostname, port } = new URL(api.url);
  const socket = connect(Number(port), hostname);
  socket.write([`PUT ${path} HTTP/1.1`, `host: ${hostname}`, 'content-length: 40000000', ...headers, '', ''].join('\r\n'));
  const [first] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return first.toString('latin1').split('\r\n', 1)[0] ?? '';
}

describe('a small compressed request', () => {
  test('that grows to 60 MB is refused, and does not stop other requests', async () => {
    expect(BOMB.length).toBeLessThan(100_000);
    const attack = api.request('alice', 'POST', `/v3/endpoints/${ID}/submit`, BOMB, GZIP);
    const waits: number[] = [];
    let isOver = false;
    void attack.finally(() => (isOver = true));
    while (!isOver) {
      const start = performance.now();
      expect((await api.request(undefined, 'GET', '/healthz')).status).toBe(200);
      waits.push(performance.now() - start);
    }
    expect(await attack).toMatchObject({ status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } });
    expect(Math.max(...waits)).toBeLessThan(2_000);
  });

  test.each(['/v3/functions', '/v2/batch_status', '/v1/groups', '/v1/endpoints', '/v2/submit', '/v1/taskgroups/x/cancel'])(
    'is refused by %s as well, or ignored',
    async (path) => {
      const { status } = await api.request('alice', 'POST', path, BOMB, GZIP);
      expect([413, 422, 404]).toContain(status);
    },
  );
});

describe('a body that does not arrive', () => {
  test.each([
    ['a stranger', '/v1/endpoints/x/enrolment', []],
    ['a user', `/v3/endpoints/${ID}/submit`, ['authorization: Bearer token-mallory']],
  ])('does not keep the bodies of others waiting, when %s opens many', async (_who, path, headers) => {
    const sockets = await Promise.all(Array.from({ length: 20 }, () => openBody(path, headers)));
    const start = Date.now();
    expect(await api.request('alice', 'POST', '/v1/groups', '{}')).toMatchObject({ status: 422 });
    expect(Date.now() - start).toBeLessThan(5_000);
    for (const socket of sockets) socket.destroy();
  });

  test('or arrives byte by byte, ends when others wait for the memory that it holds', async () => {
    const holders = ['mallory', 'mallory', 'trudy', 'trudy'];
    const sockets = await Promise.all(
      holders.map((name) => openBody(`/v3/endpoints/${ID}/submit`, [`authorization: Bearer token-${name}`])),
    );
    let text = '';
    sockets[0]?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const drip = setInterval(() => sockets.forEach((socket) => socket.write('1\r\n{\r\n')), 500);
    const start = Date.now();
    expect(await api.request('alice', 'POST', '/v1/groups', '{}')).toMatchObject({ status: 422 });
    expect(Date.now() - start).toBeLessThan(18_000);
    await until('the slow request is refused', () => text.includes('"code":"UNAVAILABLE"'));
    clearInterval(drip);
    expect(text).toMatch(/^HTTP\/1\.1 503 [^]*retry-after: 5/i);
    for (const socket of sockets) socket.destroy();
  });
});

describe('JSON', () => {
  test.each([
    ['of more than 1 MB', '/v1/groups', JSON.stringify({ name: 'x'.repeat(1_000_001) }), 413],
    ['of more than 16 MB', '/v3/functions', JSON.stringify({ function_name: 'f', function_code: 'x'.repeat(16_000_001) }), 413],
    [
      'with very many members',
      '/v3/functions',
      `{"function_name":"f","function_code":"x","meta":{"a":[${'{},'.repeat(60_000)}1]}}`,
      413,
    ],
    ['that is nested 10,000 levels deep', '/v3/functions', `{"meta":${'['.repeat(10_000)}${']'.repeat(10_000)}}`, 422],
    ['that is not UTF-8', '/v1/groups', '{"name":"x"}', 415],
  ])('%s is refused', async (_kind, path, body, status) => {
    const headers: Record<string, string> =
      status === 415 ? { 'content-type': 'application/json; charset=utf-16' } : { 'content-type': 'application/json' };
    expect((await api.request('alice', 'POST', path, body, headers)).status).toBe(status);
  });

  test('in an unknown encoding is refused with 415', async () => {
    const answer = await api.request('alice', 'POST', '/v1/groups', '{}', { 'content-encoding': 'zstd' });
    expect(answer).toMatchObject({ status: 415, body: { code: 'UNSUPPORTED_MEDIA_TYPE' } });
  });
});

describe('the upload of a result', () => {
  const path = `/v1/tasks/${TASK}/result?attempt=1`;

  test('is refused before its body is read, when the token is missing, wrong or of another attempt', async () => {
    expect(await statusBeforeBody(path, [])).toBe('HTTP/1.1 401 Unauthorized');
    expect(await statusBeforeBody(path, ['authorization: Bearer 1.nonsense'])).toBe('HTTP/1.1 401 Unauthorized');
    const other = signBodyToken(TOKEN_KEY, 'result', TASK, 2);
    expect(await statusBeforeBody(path, [`authorization: Bearer ${other}`])).toBe('HTTP/1.1 401 Unauthorized');
    const purpose = signBodyToken(TOKEN_KEY, 'body', TASK, 1);
    expect(await statusBeforeBody(path, [`authorization: Bearer ${purpose}`])).toBe('HTTP/1.1 401 Unauthorized');
  });
});

test('no response may be cached, or read as another content type', async () => {
  for (const [who, path] of [
    [undefined, '/healthz'],
    ['alice', '/v2/oauth2/userinfo'],
    [undefined, '/v1/identities'],
  ] as const) {
    const { headers } = await api.request(who, 'GET', path);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
  }
});
