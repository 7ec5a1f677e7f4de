import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

import { WebSocket } from 'ws';

import { createQuotas } from '../../accepting/quotas';
import type { Refusal } from '../../api/audit';
import { createResultsSocket } from '../../api/funcx-1.0/results-socket';
import { createGroupWatch } from '../../api/group-watch';
import { createRevocationWatch } from '../../api/revocation-watch';
import type { ErrorCode } from '../../contracts/errors';
import type { Identity } from '../../platform/access';
import type { Identities, IdentityRow } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { configFor, FakeDatabase, person, startApi } from '../helpers/api-harness';
import { until } from '../helpers/until';

/** Revoked identities stop receiving on the connections that they have open. */

const log = createLogger('revoked-test', 'silent');
const alice = person('alice');
const GROUP = '11111111-2222-4333-8444-555555555555';

function fakeRevocation() {
  let revokedAt: Date | null = null;
  const findMany: Identities['findMany'] = async (ids) =>
    ids.map((id): IdentityRow => ({
      id,
      name: 'alice',
      isAdmin: false,
      createdAt: new Date(),
      revokedAt,
      agentEndpointId: null,
      issuer: null,
    }));
  return { watch: createRevocationWatch({ findMany, findTokens: async () => [] }, log), revoke: () => (revokedAt = new Date()) };
}

test('server-sent events end within 5 s of the revocation', async () => {
  const { watch, revoke } = fakeRevocation();
  const db = new FakeDatabase()
    .on('find-task-group', [{ id: GROUP, ownerId: alice.id, lastSeq: 0 }])
    .on('last-seqs', [])
    .on('group-results', []);
  const api = await startApi({ db: db.asDatabase(), deps: { revocations: watch } });
  const response = await fetch(`${api.url}/v1/taskgroups/${GROUP}/events`, { headers: { authorization: 'Bearer token-alice' } });
  expect(response.status).toBe(200);
  const whole = response.text();
  const start = Date.now();
  revoke();
  await whole;
  expect(Date.now() - start).toBeLessThan(5_000);
  watch.close();
  await api.close();
}, 15_000);

/** A line of the audit log for a refusal of the results socket. */
const audited = (code: ErrorCode, identity: Identity | undefined): Refusal => ({
  code,
  identity,
  action: 'results socket',
  address: expect.stringContaining('127.0.0.1') as string,
  objects: undefined,
});

describe('the results socket', () => {
  /** `isKnown`: whether a task group has had a submission. */
  async function listen({ maxSockets = 10, maxGroups = 10_000, isKnown = (_groupId: string): boolean => true } = {}) {
    const { watch, revoke } = fakeRevocation();
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const { port } = free.address() as AddressInfo;
    free.close();
    await once(free, 'close');
    const groupWatch = createGroupWatch(async () => new Map(), log);
    const identities = { authenticate: async (token: string) => (token === 'token-alice' ? alice : undefined) } as Identities;
    const db = new FakeDatabase().on('group-results', []).asDatabase();
    const limits = { FUNCX_MAX_RESULT_SOCKETS: String(maxSockets), FUNCX_MAX_OPEN_GROUPS: String(maxGroups) };
    const refusals: Refusal[] = [];
    const socket = createResultsSocket({
      db,
      log,
      identities,
      audit: { recordRefusal: (refusal) => void refusals.push(refusal) },
      quotas: createQuotas(db, configFor(limits)),
      groupWatch,
      revocations: watch,
      taken: {
        read: async (groupId) => (isKnown(groupId) ? { ownerId: alice.id, seq: 0 } : undefined),
        advance: () => undefined,
        flush: async () => undefined,
      },
      host: '127.0.0.1',
      port,
    });
    await socket.listen();
    return {
      refusals,
      revoke,
      open: (token?: string) =>
        new WebSocket(`ws://127.0.0.1:${port}/v2/`, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
      async close() {
        socket.stopAccepting();
        await socket.handOver(0);
        groupWatch.close();
        watch.close();
      },
    };
  }

  async function connected(server: Awaited<ReturnType<typeof listen>>): Promise<WebSocket> {
    const client = server.open('token-alice');
    await once(client, 'open');
    return client;
  }
  const groupNumber = (index: number): string => `${String(index).padStart(8, '0')}-2222-4333-8444-555555555555`;

  /** The last message, and the code with which the connection was closed. */
  async function ending(client: WebSocket): Promise<{ text: string; code: number }> {
    let text = '';
    client.on('message', (data: Buffer) => (text = data.toString()));
    const [code] = (await once(client, 'close')) as [number];
    return { text, code };
  }

  test('says why and closes with 1000 within 5 s of the revocation', async () => {
    const server = await listen();
    const client = server.open('token-alice');
    await once(client, 'open');
    client.send(GROUP);
    const start = Date.now();
    server.revoke();
    const { text, code } = await ending(client);
    expect(JSON.parse(text)).toEqual({ exception: expect.stringContaining('revoked') });
    expect(server.refusals).toEqual([audited('UNAUTHENTICATED', alice)]);
    expect(code).toBe(1000);
    expect(Date.now() - start).toBeLessThan(5_000);
    await server.close();
  }, 15_000);

  test('closes a connection without a token that sends nothing', async () => {
    const server = await listen();
    const { text, code } = await ending(server.open());
    expect(JSON.parse(text)).toEqual({ exception: expect.stringContaining('access token') });
    expect(server.refusals).toEqual([audited('UNAUTHENTICATED', undefined)]);
    expect(code).toBe(1000);
    await server.close();
  }, 20_000);

  test('refuses a connection beyond the limit of its owner, and takes one again once another is closed', async () => {
    const server = await listen({ maxSockets: 2 });
    const open = async (): Promise<WebSocket> => {
      const client = server.open('token-alice');
      await once(client, 'open');
      client.send(GROUP);
      return client;
    };
    const first = await open();
    const second = await open();
    expect(await ending(await open())).toEqual({
      text: JSON.stringify({
        exception: 'You have 2 of at most 2 connections for results. Close some, or use one client for several task groups.',
      }),
      code: 1000,
    });
    expect(server.refusals).toEqual([audited('LIMIT_EXCEEDED', undefined)]);
    first.close();
    await once(first, 'close');
    await until('there is room again', async () => {
      const client = await open();
      client.send('no task group'); // whoever has a place is told so
      return (await ending(client)).text.includes('must be a task group ID');
    });
    expect(second.readyState).toBe(WebSocket.OPEN);
    second.close();
    await server.close();
  }, 20_000);

  test('refuses the 1,001st task group of one connection', async () => {
    const server = await listen();
    const client = server.open('token-alice');
    await once(client, 'open');
    for (let index = 0; index <= 1_000; index++) client.send(groupNumber(index));
    const { text } = await ending(client);
    expect(JSON.parse(text)).toEqual({ exception: expect.stringContaining('at most 1000 task groups') });
    expect(server.refusals).toEqual([audited('LIMIT_EXCEEDED', alice)]);
    await server.close();
  }, 15_000);

  test('refuses task groups beyond the limit of their owner over all connections, until a connection closes', async () => {
    const server = await listen({ maxGroups: 3 });
    const first = await connected(server);
    for (const index of [1, 2]) first.send(groupNumber(index));
    const second = await connected(server);
    for (const index of [1, 3]) second.send(groupNumber(index));
    const { text, code } = await ending(second);
    expect(JSON.parse(text)).toEqual({
      exception: expect.stringContaining('You have 3 of at most 3 task groups that connections'),
    });
    expect(code).toBe(1000);
    expect(server.refusals).toEqual([audited('LIMIT_EXCEEDED', alice)]);
    first.close();
    await once(first, 'close');
    const third = await connected(server);
    for (const index of [1, 2, 3]) third.send(groupNumber(index));
    third.send('no task group'); // is told so because the three were accepted
    expect((await ending(third)).text).toContain('must be a task group ID');
    await server.close();
  }, 15_000);

  test('takes some task groups before their first submission, and refuses more', async () => {
    const known = new Set<string>();
    const server = await listen({ isKnown: (groupId) => known.has(groupId) });
    const early = await connected(server);
    for (let index = 1; index <= 100; index++) early.send(groupNumber(index));
    const pong = once(early, 'pong');
    early.ping();
    await pong;
    expect(server.refusals).toEqual([]);
    const flood = await connected(server);
    flood.send(groupNumber(101));
    const { text, code } = await ending(flood);
    expect(JSON.parse(text)).toEqual({ exception: expect.stringContaining('task groups without a submission') });
    expect(code).toBe(1000);
    expect(server.refusals).toEqual([audited('LIMIT_EXCEEDED', alice)]);
    expect(early.readyState).toBe(WebSocket.OPEN);
    early.close();
    await server.close();
  }, 15_000);
});
