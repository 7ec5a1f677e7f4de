import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { createBrokerAdmin, type BrokerAdmin } from '../../platform/broker-admin';

interface Seen {
  line: string;
  body: string;
}

let server: Server;
let seen: Seen[];
let answer: (line: string) => { status: number; body?: unknown } | undefined;
let admin: BrokerAdmin;

beforeEach(async () => {
  seen = [];
  answer = () => ({ status: 204 });
  server = createServer((req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => (body += chunk.toString()));
    req.on('end', () => {
      const line = `${req.method} ${req.url}`;
      seen.push({ line, body });
      const given = answer(line);
      if (given) res.writeHead(given.status).end(given.body === undefined ? undefined : JSON.stringify(given.body)); // else: silence
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  admin = createBrokerAdmin({
    managementUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    amqpUrl: 'amqp://svc:pw@broker:5672/my%2Fhost',
    deadlineMs: 2_000, // also on a busy machine, only silence takes longer
  });
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

describe('the administration of the broker', () => {
  test('a minted user is limited to its names and keys, and its password is sent as a hash', async () => {
    const { name, password } = await admin.mint({
      name: 'agent-1',
      write: '^(x)$',
      read: '^(q)$',
      topics: [{ exchange: 'x', write: '^(1\\.results)$' }],
    });
    expect(name).toBe('agent-1');
    expect(seen.map(({ line }) => line).sort()).toEqual([
      'PUT /api/permissions/my%2Fhost/agent-1',
      'PUT /api/topic-permissions/my%2Fhost/agent-1',
      'PUT /api/users/agent-1',
    ]);
    expect(seen[0]?.line).toBe('PUT /api/users/agent-1');
    expect(seen.some(({ body }) => body.includes(password))).toBe(false);
    const permissions = seen.find(({ line }) => line.includes('/permissions/'));
    expect(JSON.parse(permissions?.body ?? '')).toEqual({ configure: '^$', write: '^(x)$', read: '^(q)$' });
  });

  test('revoking users that no longer exist succeeds', async () => {
    answer = () => ({ status: 404, body: { error: 'Object Not Found' } });
    await expect(admin.revoke(['one'])).resolves.toBeUndefined();
    await expect(admin.exists('one')).resolves.toBe(false);
    answer = () => ({ status: 204 });
    await admin.revoke(['one', 'two']);
    expect(seen.at(-1)).toEqual({ line: 'POST /api/users/bulk-delete', body: JSON.stringify({ users: ['one', 'two'] }) });
    await admin.revoke([]);
    expect(seen).toHaveLength(3);
  });

  test('users of whom one is gone already are revoked one by one', async () => {
    answer = (line) => {
      if (line.endsWith('/bulk-delete')) return { status: 400, body: { error: 'bad_request', reason: ['no_such_user', 'one'] } };
      return { status: line.endsWith('/one') ? 404 : 204 };
    };
    await admin.revoke(['one', 'two']);
    const removals = ['DELETE /api/users/one', 'DELETE /api/users/two'];
    expect(seen.map(({ line }) => line)).toEqual(['POST /api/users/bulk-delete', ...removals]);
  });

  test('connected users are listed once, by name', async () => {
    answer = () => ({ status: 200, body: [{ user: 'a' }, { user: 'b' }, { user: 'a' }, {}] });
    await expect(admin.listConnectedUsers()).resolves.toEqual(new Set(['a', 'b']));
  });

  test('a broker that is silent or returns an error is reported as UNAVAILABLE', async () => {
    answer = () => undefined;
    await expect(admin.exists('x')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    answer = () => ({ status: 500, body: { reason: 'down' } });
    await expect(admin.revoke(['x'])).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
