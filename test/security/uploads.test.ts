import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';

import { signBodyToken } from '../../platform/body-tokens';
import { configFor, startApi, TOKEN_KEY, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';

/** Uploads of results: streamed to the store, so neither many nor slow ones take memory of the API. */

const TASK = '019a20d0-0000-8000-8000-000000000001';
const PATH = `/v1/tasks/${TASK}/result?attempt=1`;
const MEGABYTE = 1024 * 1024;
const MAX_CHARS = 10 * MEGABYTE;

jest.setTimeout(60_000);

let postgres: ScratchPostgres;
let api: ApiHarness;
const headers = { authorization: `Bearer ${signBodyToken(TOKEN_KEY, 'result', TASK, 1)}` };

beforeAll(async () => {
  postgres = await startScratchPostgres();
  api = await startApi({ db: postgres.db, config: configFor({ FUNCX_MAX_BODY_CHARS: String(MAX_CHARS) }) });
}, 120_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
}, 60_000);
beforeEach(() => postgres.db.query('truncate uploads, upload_parts'));

const put = (body: Buffer, more: Record<string, string> = {}): Promise<Response> =>
  fetch(api.url + PATH, { method: 'PUT', headers: { ...headers, ...more }, body });
const stored = async (): Promise<Buffer | undefined> =>
  (await postgres.db.query<{ body: Buffer }>('select body from uploads where id = $1 and attempt = 1', [TASK])).rows[0]?.body;
const parts = async (): Promise<number> =>
  (await postgres.db.query<{ n: number }>('select count(*)::integer as n from upload_parts')).rows[0]!.n; // an aggregate

test.each([
  ['small', 'short'],
  ['empty', ''],
  ['large', `ü🙂${randomBytes(2_500_000).toString('hex')}`],
])('a %s result is stored byte for byte, and a repeat replaces it', async (_size, text) => {
  const body = Buffer.from(text);
  expect((await put(Buffer.from('earlier'))).status).toBe(200);
  expect((await put(body)).status).toBe(200);
  expect((await stored())?.equals(body)).toBe(true);
  expect((await put(gzipSync(body), { 'content-encoding': 'gzip' })).status).toBe(200);
  expect((await stored())?.equals(body)).toBe(true);
  expect(await parts()).toBe(0);
});

test('a result with too many characters is refused, and nothing of it is kept', async () => {
  const refused = await put(Buffer.alloc(MAX_CHARS + 1, 'x'));
  expect(refused.status).toBe(413);
  expect(await refused.json()).toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  expect(await stored()).toBeUndefined();
  expect(await parts()).toBe(0);
});

test('of uploads that stop in the middle the store has the parts, and nothing once their senders are gone', async () => {
  const { hostname, port } = new URL(api.url);
  const head = [`PUT ${PATH} HTTP/1.1`, `host: ${hostname}`, `content-length: ${9 * MEGABYTE}`];
  const sockets = await Promise.all(
    [1, 2].map(async () => {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      socket.write([...head, `authorization: ${headers.authorization}`, '', ''].join('\r\n'));
      socket.write(Buffer.alloc(5 * MEGABYTE, 'x'));
      return socket;
    }),
  );
  await until('the parts are stored', async () => (await parts()) >= 6);
  for (const socket of sockets) socket.destroy();
  await until('the parts are removed', async () => (await parts()) === 0);
  expect(await stored()).toBeUndefined();
});
