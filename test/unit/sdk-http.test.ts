import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { ApiError, Client, ConnectionError, FuncXError } from '../../sdk/index';

/** A service that answers what the test says, over a real socket. */

interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: string;
}
type Answer = (res: ServerResponse, asked: Asked) => void;

const reply =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (res) =>
    res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
const hangUp: Answer = (res) => res.socket?.destroy();
const accepted: Answer = reply(200, {
  request_id: 'r',
  task_group_id: 'g',
  endpoint_id: 'e',
  tasks: { f1: ['t1', 't3'], f2: ['t2'] },
});

describe('the requests of a client', () => {
  let server: Server;
  let client: Client;
  let answers: Answer[];
  let asked: Asked[];
  let tokens: number;

  beforeEach(async () => {
    answers = [];
    asked = [];
    tokens = 0;
    server = createServer((req, res) => {
      let body = '';
      req.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      req.on('end', () => {
        if (req.url === '/v2/oauth2/token') {
          tokens++;
          return reply(200, { access_token: `token-${tokens}`, expires_in: 3600 })(res, asked[0] as Asked);
        }
        const one = { method: req.method ?? '', path: req.url ?? '', headers: req.headers, body };
        asked.push(one);
        (answers.shift() ?? hangUp)(res, one);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    client = new Client({ apiUrl: `http://127.0.0.1:${port}/`, clientId: 'id', clientSecret: 'secret', retryForMs: 5_000 });
  });

  afterEach(async () => {
    client.close();
    await new Promise((resolve) => server.close(resolve));
  });

  test('share one token, and a refused one is renewed once', async () => {
    answers = [
      reply(200, { functions: [] }),
      reply(401, { code: 'UNAUTHENTICATED', message: 'old' }),
      reply(200, { functions: [] }),
    ];
    await client.functions();
    await client.functions();
    expect(asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer token-1', 'Bearer token-1', 'Bearer token-2']);
  });

  test('end with the refusal when a new token is refused as well', async () => {
    const refused = reply(401, { code: 'UNAUTHENTICATED', message: 'the identity was revoked' });
    answers = [refused, refused];
    await expect(client.functions()).rejects.toMatchObject({ code: 'UNAUTHENTICATED', status: 401 });
    expect(asked).toHaveLength(2);
  });

  test('are repeated when the connection breaks or the service is not available', async () => {
    answers = [hangUp, reply(503, { code: 'UNAVAILABLE', message: 'wait' }), reply(200, { functions: [] })];
    expect(await client.functions()).toEqual([]);
    expect(asked).toHaveLength(3);
  });

  test('wait as long as Retry-After says', async () => {
    answers = [
      reply(429, { code: 'LIMIT_EXCEEDED', message: 'slow down' }, { 'retry-after': '1' }),
      reply(200, { functions: [] }),
    ];
    const started = performance.now();
    await client.functions();
    expect(performance.now() - started).toBeGreaterThanOrEqual(1_000);
  });

  test('that submit carry one idempotency key through their repeats, and give the ids in the order of the calls', async () => {
    answers = [hangUp, reply(500, {}), accepted];
    const calls = ['f1', 'f2', 'f1'].map((functionId) => ({ functionId, args: [1] }));
    expect(await client.submit('e', calls, { retries: 3, walltimeS: 5 })).toEqual({
      taskGroupId: 'g',
      taskIds: ['t1', 't2', 't3'],
    });
    const keys = new Set(asked.map(({ headers }) => headers['idempotency-key']));
    expect([asked.length, keys.size]).toEqual([3, 1]);
    expect(new Set(asked.map(({ body }) => body)).size).toBe(1);
    expect(JSON.parse(asked[0]?.body ?? '')).toMatchObject({
      resource_specification: { funcx: { retries: { attempts: 3, backoff_s: 1 }, walltime_s: 5 } },
    });
  });

  test('that make something without a key are not repeated', async () => {
    answers = [hangUp, reply(201, {})];
    await expect(client.createGroup('team')).rejects.toBeInstanceOf(ConnectionError);
    expect(asked).toHaveLength(1);
  });

  test('throw the code, the sentence and the request id of a refusal, without a repeat', async () => {
    answers = [reply(404, { code: 'TASK_NOT_FOUND', message: 'no task x belongs to you', request_id: 'r-1' })];
    const error: unknown = await client.task('x').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: 'TASK_NOT_FOUND', message: 'no task x belongs to you', requestId: 'r-1', status: 404 });
    expect(asked).toHaveLength(1);
  });

  test('tell of an answer that is not of this service', async () => {
    answers = Array.from({ length: 30 }, () => (res: ServerResponse) => res.writeHead(200).end('<html>'));
    const { port } = server.address() as AddressInfo;
    const hasty = new Client({ apiUrl: `http://127.0.0.1:${port}`, clientId: 'id', clientSecret: 's', retryForMs: 0 });
    await expect(hasty.functions()).rejects.toThrow(/not this service/);
    hasty.close();
  });
});

describe('the options of a client', () => {
  const env = { ...process.env };
  afterEach(() => {
    process.env = { ...env };
  });

  test('come from the environment, and what is missing is named', () => {
    for (const name of ['FUNCX_API_URL', 'FUNCX_CLIENT_ID', 'FUNCX_CLIENT_SECRET', 'FUNCX_CA']) delete process.env[name];
    expect(() => new Client()).toThrow(/"apiUrl" or set FUNCX_API_URL/);
    process.env.FUNCX_API_URL = 'http://localhost:5000';
    process.env.FUNCX_CLIENT_ID = 'id';
    expect(() => new Client()).toThrow(/FUNCX_CLIENT_SECRET/);
    process.env.FUNCX_CLIENT_SECRET = 'secret';
    expect(() => new Client()).not.toThrow();
    expect(() => new Client({ apiUrl: 'localhost:5000' })).toThrow(FuncXError);
    expect(() => new Client({ ca: '/nowhere/ca.pem' })).toThrow(/Cannot read the certificate authority \/nowhere\/ca\.pem/);
  });
});
