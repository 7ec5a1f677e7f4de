import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';

import { ApiError } from '../../client';
import { Registrar, RegistrationRefusedError } from '../../endpoint/registration';
import { ProcessGroups } from '../../endpoint/runners/process-groups';
import { ServiceClient } from '../../endpoint/service-client';
import { DirectoryInUseError, StateDir } from '../../endpoint/state-dir';

const ENDPOINT = '11111111-2222-4333-8444-555555555555';

interface Seen {
  method: string;
  url: string;
  authorization: string | undefined;
  body: string;
}

/** A service with just the routes that an agent calls; `answer` decides what registrations hear. */
class FakeService {
  readonly seen: Seen[] = [];
  tokens = 0;
  answer: { status: number; headers?: Record<string, string>; body: unknown } = { status: 200, body: registrationAnswer() };
  /** Tokens that are refused. */
  readonly revoked = new Set<string>();
  readonly #server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => this.#respond(request, Buffer.concat(chunks).toString(), response));
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get registrations(): { method: string; url: string; replace: unknown }[] {
    return this.seen
      .filter(({ url }) => url.startsWith('/v1/endpoints'))
      .map(({ method, url, body }) => ({ method, url, replace: (JSON.parse(body) as { replace: unknown }).replace }));
  }

  #respond(request: http.IncomingMessage, body: string, response: http.ServerResponse): void {
    const { method = '', url = '', headers } = request;
    this.seen.push({ method, url, authorization: headers.authorization, body });
    const send = (status: number, value: unknown, more: Record<string, string> = {}): void => {
      response.writeHead(status, { 'content-type': 'application/json', ...more });
      response.end(typeof value === 'string' ? value : JSON.stringify(value));
    };
    if (url === '/v2/oauth2/token') {
      const isKnown = headers.authorization === `Basic ${Buffer.from('id:secret').toString('base64')}`;
      return isKnown
        ? send(200, { access_token: `token-${++this.tokens}`, expires_in: 3600 })
        : send(401, { detail: 'Wrong secret.' });
    }
    if (this.revoked.has(headers.authorization ?? '')) return send(401, { detail: 'Expired.' });
    if (url.startsWith('/v1/endpoints')) return send(this.answer.status, this.answer.body, this.answer.headers);
    send(404, { detail: 'Nothing here.' });
  }
}

function registrationAnswer(): object {
  return {
    endpoint_id: ENDPOINT,
    broker: { url: 'amqp://user:password@localhost:5672/' },
    task_queue: 't',
    command_queue: 'c',
    results: { exchange: 'r', routing_key: 'k' },
    status: { exchange: 's', routing_key: 'k' },
    heartbeat_period_s: 5,
    ack_within_ms: 600_000,
    inline_body_bytes: 1_000_000,
    max_body_bytes: 10_000_000,
  };
}

let service: FakeService;
let dir: string;
let client: ServiceClient;
let state: StateDir;

beforeEach(async () => {
  service = new FakeService();
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'funcx-agent-'));
  client = new ServiceClient({ apiUrl: await service.start(), clientId: 'id', clientSecret: 'secret' });
  state = StateDir.open(dir);
});

afterEach(async () => {
  state.close();
  client.close();
  await service.close();
  fs.rmSync(dir, { recursive: true, force: true });
});

const registrar = (wishedId?: string): Registrar =>
  new Registrar({ client, state, wishedId, body: { name: 'local', incarnation: 'one', workers: 2 } });

test('the first registration makes an endpoint, a later start takes its own one over', async () => {
  await registrar().register();
  const later = registrar();
  await later.register();
  await later.register();
  expect(service.registrations).toEqual([
    { method: 'POST', url: '/v1/endpoints', replace: false },
    { method: 'PUT', url: `/v1/endpoints/${ENDPOINT}`, replace: true },
    { method: 'PUT', url: `/v1/endpoints/${ENDPOINT}`, replace: false },
  ]);
});

test('an agent that wishes for an id registers with it', async () => {
  await registrar(ENDPOINT).register();
  expect(service.registrations).toEqual([{ method: 'PUT', url: `/v1/endpoints/${ENDPOINT}`, replace: false }]);
});

test('an access token that was revoked is renewed once', async () => {
  service.revoked.add('Bearer token-1');
  await registrar().register();
  expect(service.tokens).toBe(2);
});

test('a wrong secret is told with the sentence of the service', async () => {
  const wrong = new ServiceClient({ apiUrl: 'http://127.0.0.1:1', clientId: 'id', clientSecret: 'wrong' });
  await expect(wrong.register({ name: 'local', incarnation: 'one', workers: 1 })).rejects.toThrow('ECONNREFUSED');
  wrong.close();
  service.revoked.add('Bearer token-1').add('Bearer token-2');
  await expect(registrar().register()).rejects.toMatchObject({ message: 'Expired.', exitCode: 78 });
});

test.each([
  [409, 78],
  [403, 78],
  [422, 78],
  [404, 78],
  [423, 0],
])('a first registration that is refused with %i ends the agent with %i', async (status, exitCode) => {
  service.answer = { status, body: { detail: 'No.' } };
  const refusal: unknown = await registrar()
    .register()
    .catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(RegistrationRefusedError);
  expect(refusal).toMatchObject({ message: 'No.', exitCode });
});

test('a service that is away for a moment is asked again after the time it names', async () => {
  service.answer = { status: 503, headers: { 'retry-after': '0.2' }, body: { detail: 'Later.' } };
  const before = Date.now();
  await expect(registrar().register()).rejects.toBeInstanceOf(ApiError);
  expect(Date.now() - before).toBeGreaterThanOrEqual(190);
});

test('a registered agent that meets a conflict keeps trying, one that was deleted ends', async () => {
  const one = registrar();
  await one.register();
  service.answer = { status: 409, headers: { 'retry-after': '0' }, body: { detail: 'Taken.' } };
  await expect(one.register()).rejects.toBeInstanceOf(ApiError);
  service.answer = { status: 404, body: { detail: 'Deleted.' } };
  await expect(one.register()).rejects.toBeInstanceOf(RegistrationRefusedError);
});

test('two agents cannot use one directory, and the lock of a dead one is taken over', () => {
  expect(() => StateDir.open(dir)).toThrow(DirectoryInUseError);
  const lock = path.join(dir, 'agent.lock');
  const owner = JSON.parse(fs.readFileSync(lock, 'utf8')) as { pid: number; hostname: string; started: string };
  fs.writeFileSync(lock, JSON.stringify({ ...owner, started: 'another time' }));
  state = StateDir.open(dir);
  expect(() => StateDir.open(dir)).toThrow(DirectoryInUseError);
});

test('a log of workers that grows while they write is cut, and its end is kept beside it', () => {
  const log = state.openWorkerLog();
  const line = `${'x'.repeat(1023)}\n`;
  fs.writeSync(log.fd, line.repeat(11 * 1024));
  fs.writeSync(log.fd, 'the end\n');
  state.limitWorkerLog(log);
  fs.writeSync(log.fd, 'and on\n');
  expect(fs.readFileSync(log.file, 'utf8')).toBe('and on\n');
  const kept = fs.readFileSync(`${log.file}.1`, 'utf8');
  expect(kept.length).toBe(10 * 1024 * 1024);
  expect(kept.endsWith('\nthe end\n')).toBe(true);
  fs.closeSync(log.fd);
});

test('a worker group is killed when the agent dies without a word', async () => {
  const code = `
    const { spawn } = require('node:child_process');
    const script = require('node:fs').readFileSync(0, 'utf8');
    const child = spawn('/bin/sh', ['-c', 'sleep 600; echo'], { detached: true, stdio: 'ignore' });
    const guard = spawn('/bin/sh', ['-c', script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'], env: {} });
    guard.stdin.write('add 999999998\\nadd ' + child.pid + '\\ndel 999999998\\n', () => {
      console.log(child.pid);
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100);
    });`;
  const agent = spawn(process.execPath, ['-e', code], { stdio: ['pipe', 'pipe', 'inherit'] });
  agent.stdin.end(ProcessGroups.guardScript);
  let out = '';
  agent.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await new Promise((resolve) => agent.once('close', resolve));
  const pid = Number(out);
  expect(pid).toBeGreaterThan(1);
  const end = Date.now() + 5_000;
  const lives = (): boolean => {
    try {
      return process.kill(-pid, 0);
    } catch {
      return false;
    }
  };
  while (lives() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(lives()).toBe(false);
});
