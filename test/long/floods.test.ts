import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectSocket, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

import { connect, type ChannelModel, type ConfirmChannel } from 'amqplib';
import { WebSocket } from 'ws';

import { EXCHANGE } from '../../contracts/names';
import { printFigure } from '../helpers/figures';
import { Http, localEndpoint, state, type Credentials } from '../helpers/system';

/**
 * Somebody floods the service with what they may send, and a neighbour calls a function. The neighbour's calls may take three
 * times as long (p95) as without the flood. Both are measured in one run, the quiet calls before and after.
 */

const CALLS = 40;
const WARM_UP = 20;
const MAX_RATIO = 3;
/** The flood, the service and the neighbour share the cores of the machine; below this, their scheduling decides. */
const NOISE_MS = 150;
const TIMEOUT_MS = 300_000;

const admin = new Http();
let mallory: Http;
let noop: string;

beforeAll(async () => {
  mallory = new Http((await admin.ok('POST', '/v1/identities', { name: `mallory-${randomUUID()}` })) as Credentials);
  noop = await admin.register('noop', '() => 0', 'javascript');
  await p95(WARM_UP);
}, TIMEOUT_MS);

async function call(): Promise<number> {
  const begun = performance.now();
  const taskId = await admin.submitOne(localEndpoint(), noop, []);
  await admin.value(taskId);
  return performance.now() - begun;
}

async function p95(calls: number): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < calls; n++) times.push(await call());
  return times.sort((a, b) => a - b)[Math.ceil(calls * 0.95) - 1]!; // in range
}

/** A flood goes on until it is stopped; its own failures are what the service answers. */
type Flood = (isOver: () => boolean, count: (what: string) => void) => Promise<void>;

async function measure(name: string, flood: Flood): Promise<void> {
  const before = await p95(CALLS);
  let isOver = false;
  const counts = new Map<string, number>();
  const flooding = flood(
    () => isOver,
    (what) => counts.set(what, (counts.get(what) ?? 0) + 1),
  );
  const during = await p95(CALLS).finally(() => (isOver = true));
  await flooding;
  const after = await p95(CALLS);
  const quiet = Math.max(before, after);
  const seen = [...counts].map(([what, n]) => `${n} ${what}`).join(', ');
  printFigure(`${name}: p95 ${quiet.toFixed(0)} ms, ${during.toFixed(0)} ms during the flood (${seen})`);
  expect(counts.size).toBeGreaterThan(0);
  expect(during).toBeLessThan(Math.max(MAX_RATIO * quiet, NOISE_MS));
}

/** `count` loops side by side. */
const parallel = async (count: number, loop: () => Promise<void>): Promise<void> =>
  void (await Promise.all(Array.from({ length: count }, loop)));

test(
  'requests of 61 KB that grow to 60 MB',
  async () => {
    const bomb = gzipSync(`{"tasks":{"${randomUUID()}":[${'{},'.repeat(20_000_000)}{}]}}`);
    const headers = {
      authorization: `Bearer ${await mallory.token()}`,
      'content-type': 'application/json',
      'content-encoding': 'gzip',
    };
    await measure('compressed requests', (isOver, count) =>
      parallel(4, async () => {
        while (!isOver()) {
          const response = await fetch(`${state().api_url}/v3/endpoints/${localEndpoint()}/submit`, {
            method: 'POST',
            headers,
            body: bomb,
          });
          await response.arrayBuffer();
          count(`answered ${response.status}`);
        }
      }),
    );
  },
  TIMEOUT_MS,
);

test(
  '20,000 made-up task groups on the results socket',
  async () => {
    const token = await mallory.token();
    const sockets: WebSocket[] = [];
    await measure('task groups', async (isOver, count) => {
      for (let n = 0; n < 20 && !isOver(); n++) {
        const socket = new WebSocket(`${state().ws_url}/v2/`, { headers: { authorization: `Bearer ${token}` } });
        sockets.push(socket);
        socket.on('error', () => undefined);
        await once(socket, 'open');
        for (let group = 0; group < 1_000; group++) {
          socket.send(randomUUID());
          count('task groups');
        }
      }
    });
    for (const socket of sockets) socket.terminate();
  },
  TIMEOUT_MS,
);

/**
 * Publishes messages as a hostile agent, one after another, as fast as the broker confirms them. An agent that is cut off
 * registers again, without end.
 */
async function publish(
  isOver: () => boolean,
  count: (what: string) => void,
  what: string,
  body: Buffer,
  headers: object,
): Promise<void> {
  const id = randomUUID();
  const agent = { name: `hostile-${id}`, incarnation: randomUUID(), workers: 1, metadata: {} };
  while (!isOver()) {
    const { status, body: answer } = await mallory.request('PUT', `/v1/endpoints/${id}`, agent);
    if (status !== 200) {
      count(`registrations answered ${status}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    const { url, ca } = answer.broker as { url: string; ca?: string };
    try {
      const model: ChannelModel = await connect(url, ca === undefined ? {} : { ca: [Buffer.from(ca)] });
      model.on('error', () => undefined);
      const channel: ConfirmChannel = await model.createConfirmChannel();
      channel.on('error', () => undefined);
      while (!isOver()) {
        channel.publish(EXCHANGE.results, answer.results.routing_key as string, body, { headers });
        await channel.waitForConfirms();
        count(what);
      }
      await model.close();
    } catch {
      count('connections lost');
    }
  }
}

test(
  'messages of a hostile agent that become dead letters',
  () => measure('dead letters', (isOver, count) => publish(isOver, count, 'messages of 30 KB', Buffer.alloc(30_000, 'x'), {})),
  TIMEOUT_MS,
);

/** What the data of a result is. */
const FRAMES: readonly [string, () => string][] = [
  ['one long text', () => JSON.stringify('x'.repeat(20_000_000))],
  ['millions of members', () => JSON.stringify('x').replace('"x"', `"x","details":{"a":[${'{},'.repeat(6_500_000)}{}]}`)],
];
test.each(FRAMES)(
  'results of 20 MB of a hostile agent, with %s',
  async (name, data) => {
    const json = `{"message_type":"result","data":{"task_id":"${randomUUID()}","data":${data()}}}`;
    const frame = Buffer.concat([Buffer.from([1]), Buffer.from(json)]);
    await measure(`20 MB, ${name}`, (isOver, count) => publish(isOver, count, 'results of 20 MB', frame, { 'funcx-attempt': 1 }));
  },
  TIMEOUT_MS,
);

test(
  'uploads of 40 MB without a token',
  async () => {
    const { hostname, port } = new URL(state().api_url);
    const block = Buffer.alloc(64 * 1024, 'x');
    await measure('uploads', (isOver, count) =>
      parallel(30, async () => {
        while (!isOver()) {
          const socket: Socket = connectSocket(Number(port), hostname);
          socket.on('error', () => undefined);
          const closed = new Promise((resolve) => socket.once('close', resolve));
          socket.once('data', () => socket.destroy());
          socket.write(
            `PUT /v1/tasks/${randomUUID()}/result?attempt=1 HTTP/1.1\r\nhost: ${hostname}\r\ncontent-length: 40000000\r\n\r\n`,
          );
          socket.write(block);
          await closed;
          count('uploads');
        }
      }),
    );
  },
  TIMEOUT_MS,
);
