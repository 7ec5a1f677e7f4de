import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { RabbitmqHealth } from '../../local/engines/rabbitmq-health';

/** What the supervisor concludes from RabbitMQ's management API; the answers are those of 3.10.8. */

const RESULTS = 'funcx.results';
const TASKS = 'ep.1.tasks';
const STATUS = 'funcx.status';

let server: Server;
let leaders: Record<string, string | null>;
let states: Record<string, string>;
let vhostState: string;
let isDeaf: boolean;
let deleted: string[];
let freed: string[];
let said: string[];
/** What each question for the leaders finds. */
let elections: (() => { elected: string[]; starting: number })[];
let health: RabbitmqHealth;

beforeAll(async () => {
  server = createServer((request, response) => {
    const path = new URL(request.url ?? '', 'http://x').pathname;
    const row = (name: string): object => ({ name, type: 'quorum', leader: leaders[name] });
    const classicRow = ([name, state]: [string, string]): object => ({ name, type: 'classic', state });
    const name = decodeURIComponent(path.split('/')[4] ?? '');
    if (request.method === 'DELETE') {
      deleted.push(name);
      delete leaders[name];
      return response.writeHead(204).end();
    }
    if (path.startsWith('/api/vhosts/'))
      return response.end(JSON.stringify({ cluster_state: { 'funcx@localhost': vhostState } }));
    if (name === '')
      return response.end(JSON.stringify([...Object.keys(leaders).map(row), ...Object.entries(states).map(classicRow)]));
    if (!(name in leaders)) return response.writeHead(404).end('{"error":"Object Not Found"}');
    return response.end(JSON.stringify(row(name)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => server.close());
beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'setTimeout', 'clearTimeout', 'queueMicrotask'] });
  freed = [];
  elections = [];
  isDeaf = false;
  states = { [STATUS]: 'live' };
  [leaders, vhostState, deleted, said] = [{ [RESULTS]: 'funcx@localhost', [TASKS]: 'funcx@localhost' }, 'running', [], []];
  const { port } = server.address() as AddressInfo;
  const say = (line: string): void => void said.push(line);
  const freeName = async (name: string): Promise<void> => void freed.push(name);
  health = new RabbitmqHealth({
    managementUrl: `http://u:p@127.0.0.1:${port}`,
    vhost: 'funcx',
    queue: RESULTS,
    isDeaf: async () => isDeaf,
    freeName,
    elect: async () => (elections.shift() ?? (() => ({ elected: [], starting: 0 })))(),
    say,
  });
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
  expect(await poll()).toBe(`its queue ${TASKS} is without a leader`);
  leaders[RESULTS] = null;
  expect(await poll(3)).toBe(`its queues ${RESULTS} and 1 more are without a leader`);
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

test('a classic queue that stops is a fault; one that did not run since the start of the node is none', async () => {
  await poll();
  states = { [STATUS]: 'stopped', other: 'crashed' };
  expect(await poll()).toBe(`its queue ${STATUS} is stopped`);
  health.reset(); // the node was started again
  expect(await poll()).toBeUndefined();
});

test('a queue that stops again after the start of the node is none for an hour, unless most queues stop', async () => {
  const crash = async (name: string): Promise<string | undefined> => {
    states = { [STATUS]: 'running', a: 'running', b: 'running' };
    await poll();
    states[name] = 'crashed';
    return poll();
  };
  expect(await crash('a')).toBe('its queue a is stopped');
  health.reset();
  expect(await crash('a')).toBeUndefined();
  expect(await crash('b')).toBe('its queue b is stopped');
  states = { [STATUS]: 'stopped', a: 'stopped', b: 'stopped' };
  expect(await poll()).toBe(`its queues ${STATUS} and 2 more are stopped`);
  states = { other: 'stopped', a: 'running' }; // deleted, and one that never ran
  expect(await poll()).toBeUndefined();
  jest.setSystemTime(Date.now() + 3_700_000);
  health.reset();
  expect(await crash('a')).toBe('its queue a is stopped');
});

test('a node that does not listen any more is a fault', async () => {
  isDeaf = true;
  expect(await poll(1)).toBe('it does not listen any more');
});

test('a stopped virtual host is a fault', async () => {
  vhostState = 'stopped';
  expect(await poll(1)).toBe('its virtual host is stopped');
});

test('queues that start without a leader get an election after each start of the node, until all have one', async () => {
  const later = async (): Promise<void> => {
    jest.setSystemTime(Date.now() + 10_000);
    await poll(1);
  };
  elections = [
    () => ({ elected: [TASKS], starting: 1 }),
    () => {
      throw new Error('the node is busy');
    },
    () => ({ elected: [], starting: 0 }),
    () => ({ elected: ['after the next start', RESULTS], starting: 0 }),
  ];
  await poll();
  expect(elections).toHaveLength(3); // a busy machine starts no Erlang node with each poll
  await later();
  await later();
  expect(elections).toHaveLength(1);
  await later();
  expect(elections).toHaveLength(1);
  health.reset();
  await poll();
  expect(said).toEqual([
    `rabbitmq started without a leader for queue ${TASKS}; an election was started`,
    `rabbitmq started without a leader for queues after the next start and 1 more; an election was started`,
  ]);
});

test('a node that cannot be asked for its leaders is asked six times, then a line says so', async () => {
  const refuse = (): never => {
    throw new Error('no rabbitmqctl here');
  };
  elections = Array.from({ length: 8 }, () => refuse);
  for (let n = 0; n < 8; n++) {
    expect(await poll(1)).toBeUndefined();
    jest.setSystemTime(Date.now() + 10_000);
  }
  expect(elections).toHaveLength(2);
  expect(said).toEqual(['rabbitmq may have started queues without a leader, and cannot be asked: no rabbitmqctl here']);
});
