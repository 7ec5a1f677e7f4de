import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { isAllowListEntry, isNetwork, mayConnectTo, listedNetworks } from '../../platform/networks';
import { createOutgoingHttp, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, OutgoingRefused } from '../../platform/outgoing-http';
import { readConfig } from '../../platform/config';

/** Requests to addresses that users name, against a real server. */

const LOOPBACK = ['127.0.0.0/8', '::1'];
let server: Server;
let port: number;
let seen: string[];
let respond: (request: IncomingMessage, response: ServerResponse) => void;

beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    respond(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  ({ port } = server.address() as AddressInfo);
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(() => {
  seen = [];
  respond = (_request, response) => response.end('{"fine": true}');
});

const outgoing = (allowed: string[], deadlineMs?: number) => createOutgoingHttp(listedNetworks(allowed), { deadlineMs });
const get = (host: string, allowed = LOOPBACK) => outgoing(allowed).send({ method: 'GET', url: `http://${host}:${port}/a` });

test('JSON goes out and comes back', async () => {
  respond = (request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => response.writeHead(202).end(JSON.stringify({ got: JSON.parse(text) as unknown })));
  };
  const answer = await outgoing(LOOPBACK).send({ method: 'POST', url: `http://127.0.0.1:${port}/run`, body: { a: 1 } });
  expect(answer).toMatchObject({ status: 202, body: { got: { a: 1 } } });
  expect(seen).toEqual(['POST /run']);
});

test.each(['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1', '0.0.0.0'])(
  'the private address %s is not connected to unless it is listed',
  async (host) => {
    await expect(get(host, [])).rejects.toThrow(OutgoingRefused);
    await expect(get(host, [])).rejects.toThrow(/private address/);
    expect(seen).toEqual([]);
  },
);

test.each(['127.0.0.1', 'localhost'])('a listed network allows %s', async (host) => {
  expect(await get(host)).toMatchObject({ status: 200, body: { fine: true } });
});

test('an allowed URL whose host is an IP address allows that IP address only', async () => {
  const allowed = [`http://127.0.0.1:${port}/*`];
  expect(await get('127.0.0.1', allowed)).toMatchObject({ status: 200 });
  await expect(get('127.0.0.2', allowed)).rejects.toThrow(/private address 127\.0\.0\.2/);
});

test('a redirect is not followed', async () => {
  respond = (_request, response) => response.writeHead(302, { location: `http://127.0.0.1:${port}/elsewhere` }).end();
  await expect(get('127.0.0.1')).rejects.toThrow(/redirect \(302\), which is not followed/);
  expect(seen).toEqual(['GET /a']);
});

test('a body and an answer have a limit', async () => {
  const body = 'x'.repeat(MAX_REQUEST_BYTES);
  await expect(outgoing(LOOPBACK).send({ method: 'POST', url: `http://127.0.0.1:${port}/`, body })).rejects.toThrow(
    /the limit is/,
  );
  expect(seen).toEqual([]);
  respond = (_request, response) => response.end(JSON.stringify('x'.repeat(MAX_ANSWER_BYTES)));
  await expect(get('127.0.0.1')).rejects.toThrow(/has more than \d+ bytes/);
});

test('an answer that does not come, or does not end, is given up in time', async () => {
  const send = () => outgoing(LOOPBACK, 300).send({ method: 'GET', url: `http://127.0.0.1:${port}/` });
  respond = () => undefined;
  await expect(send()).rejects.toThrow(/did not answer within 0.3 s/);
  respond = (_request, response) => void response.writeHead(200).write('{');
  await expect(send()).rejects.toThrow(/did not answer within 0.3 s/);
});

test('text that is not JSON is an answer without a body', async () => {
  respond = (_request, response) => response.writeHead(502).end('<html>');
  expect(await get('127.0.0.1')).toEqual({ status: 502, body: undefined, text: '<html>' });
});

test.each([
  ['93.184.215.14', true],
  ['10.1.2.3', false],
  ['100.64.0.1', false],
  ['169.254.169.254', false],
  ['172.31.0.1', false],
  ['192.168.0.1', false],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
  ['2606:2800:21f:cb07:6820:80da:af6b:8b2c', true],
  ['::', false],
  ['fd00::1', false],
  ['fe80::1', false],
  ['64:ff9b::7f00:1', false],
  ['2002:7f00:1::', false],
  ['::ffff:10.0.0.1', false],
])('may connect to %s: %s', (address, expected) => {
  expect(mayConnectTo(address, listedNetworks([]))).toBe(expected);
});

test('the allow-list of the configuration holds addresses and networks, and is empty by default', () => {
  const env = { DATABASE_URL: 'x', AMQP_URL: 'x', AMQP_MANAGEMENT_URL: 'x', FUNCX_TOKEN_KEY: 'a'.repeat(64) };
  expect(readConfig(env).FUNCX_FLOWS_HTTP_ALLOW).toEqual([]);
  const list = 'https://one.example/*, 10.1.0.0/16';
  expect(readConfig({ ...env, FUNCX_FLOWS_HTTP_ALLOW: list }).FUNCX_FLOWS_HTTP_ALLOW).toEqual([
    'https://one.example/*',
    '10.1.0.0/16',
  ]);
  for (const wrong of [
    'https://*',
    'https://*.example/*',
    'one.example',
    'ftp://one.example',
    'https://u:p@one.example/',
    '10.0.0.0/33',
  ])
    expect(() => readConfig({ ...env, FUNCX_FLOWS_HTTP_ALLOW: wrong })).toThrow('FUNCX_FLOWS_HTTP_ALLOW');
  expect([isNetwork('fd00::/8'), isNetwork('10.0.0.1'), isNetwork('host')]).toEqual([true, true, false]);
  expect([isAllowListEntry('https://h/p'), isAllowListEntry('https://h?x')]).toEqual([true, false]);
});
