import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { RabbitmqHealth } from '../../local/engines/rabbitmq-health';

/** What the supervisor concludes from RabbitMQ's management API; the answers are those of 3.10.8. */

const RESULTS = 'funcx.results';
const TASKS = 'ep.1.tasks';

let server: Server;
let leaders: Record<string, string | null>;
let vhostState: string;
let deleted: string[];
let freed: string[];
let said: string[];
let health: RabbitmqHealth;

beforeAll(async () => {
  server = createServer((request, response) => {
    const path = new URL(request.url ?? '', 'http://x').pathname;
    const row = (name: string): object => ({ name, type: 'quorum', leader: leaders[name] });
    const name = decodeURIComponent(path.split('/')[4] ?? '');
    if (request.method === 'DELETE') {
      deleted.push(name);
      delete leaders[name];
      return response.writeHead(204).end();
    }
    if (path.startsWith('/api/vhosts/'))
      return response.end(JSON.stringify({ cluster_state: { 'funcx@localhost': vhostState } }));
    if (name === '') return response.end(JSON.stringify(Object.keys(leaders).map(row)));
    if (!(name in leaders)) return response.writeHead(404).end('{"error":"Object Not Found"}');
    return response.end(JSON.stringify(row(name)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => server.close());
beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout', 'queueMicrotask'] });
  freed = [];
  [leaders, vhostState, deleted, said] = [{ [RESULTS]: 'funcx@localhost', [TASKS]: 'funcx@localhost' }, 'running', [], []];
  const { port } = server.address() as AddressInfo;
  const say = (line: string): void => void said.push(line);
  const freeName = async (name: string): Promise<void> => void freed.push(name);
  health = new RabbitmqHealth({ managementUrl: `http://u:p@127.0.0.1:${port}`, vhost: 'funcx', queue: RESULTS, freeName, say });
});
afterEach(() => jest.useRealTimers());

/** As often as it takes until the list of all queues was asked for twice. */
async function poll(times = 11): Promise<string | undefined> {
  let fault: string | undefined;
  for (let n = 0; n < times; n++) fault = await health.findFault();
  return fault;
}

test('a node whose queues have leaders is sound, also before the service has made its queues', async () => {
  expect(await poll()).toBeUndefined();
  leaders = {};
  expect(await poll()).toBeUndefined();
});

test('a queue that loses its leader is a fault, whichever it is; a queue that is being made is none', async () => {
  await poll();
  leaders[TASKS] = null;
  expect(await poll()).toBe(`its queue ${TASKS} has no leader`);
  leaders[RESULTS] = null;
  expect(await poll(3)).toBe(`its queues ${RESULTS} and 1 more have no leader`);
  leaders = { [RESULTS]: 'funcx@localhost', [TASKS]: 'funcx@localhost', new: null };
  await poll(1);
  leaders = { [RESULTS]: 'funcx@localhost', newer: null };
  expect(await poll(1)).toBeUndefined();
  expect(deleted).toEqual([]);
});

test('a queue that has no leader for half a minute after the start of its node is deleted, and a line says so', async () => {
  await poll(2);
  leaders[TASKS] = null;
  expect(await poll()).toBeDefined();
  health.reset(); // the node was started again
  expect(await poll()).toBeUndefined();
  expect(deleted).toEqual([]);
  jest.setSystemTime(Date.now() + 31_000);
  expect(await poll(1)).toBeUndefined();
  expect(deleted).toEqual([TASKS]);
  expect(freed).toEqual([TASKS]);
  expect(said).toEqual([`rabbitmq could not start the queue ${TASKS}, so it was deleted; its messages are sent again`]);
});

test('a stopped virtual host is a fault', async () => {
  vhostState = 'stopped';
  expect(await poll(1)).toBe('its virtual host is stopped');
});
