import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { layoutOf } from '../../local/machine/layout';
import { evaluateInBroker } from '../helpers/broker-node';
import { dataDir, funcx, killAndWait, management, pidOf, state } from '../helpers/system';
import { until } from '../helpers/until';

/** Queues that do not run although their node does. */

const QUEUE = 'damaged-queue';
const AWAY_MS = 120_000;

interface Shown {
  leader?: string | null;
  messages?: number;
  error?: string;
}

const queue = async (name = QUEUE): Promise<Shown> => ((await management(`queues/funcx/${name}`)) ?? {}) as Shown;

async function declare(name = QUEUE): Promise<void> {
  const body = JSON.stringify({ durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await management(`queues/funcx/${name}`, { method: 'PUT', body });
  await until('the queue has a leader', async () => Boolean((await queue(name)).leader), { everyMs: 500 });
}

/**
 * The folder of the queue, once the node has written down which it is: that takes half a second, and a node that is killed before
 * starts the queue empty.
 */
const folderOfQueue = (): Promise<string> =>
  until('the node knows the folder of the queue', () => {
    const mnesia = join(layoutOf(dataDir()).rabbitmqDir, 'mnesia');
    const files = readdirSync(mnesia, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.includes('/quorum/'))
      .map((file) => join(mnesia, file));
    const names = files.find((file) => basename(file) === 'names.dets');
    const config = files.find((file) => basename(file) === 'config' && readFileSync(file).includes(`funcx_${QUEUE}`));
    if (names === undefined || config === undefined) return undefined;
    const folder = dirname(config);
    return readFileSync(names).includes(basename(folder)) ? folder : undefined;
  });

afterAll(async () => {
  await management(`queues/funcx/${QUEUE}`, { method: 'DELETE' });
});

test('a queue that rabbitmq cannot start is removed, and the next one of its name outlives restarts', async () => {
  await declare();
  rmSync(await folderOfQueue(), { recursive: true });
  await killAndWait('rabbitmq');
  await until('the queue is gone', async () => (await queue()).error !== undefined, { deadlineMs: AWAY_MS, everyMs: 1_000 });
  const log = readFileSync(join(dataDir(), 'logs', 'supervisor.log'), 'utf8');
  expect(log).toContain(`rabbitmq could not start the queue ${QUEUE}, so it was deleted`);

  await declare();
  const message = { properties: { delivery_mode: 2 }, routing_key: QUEUE, payload: 'kept', payload_encoding: 'string' };
  const published = await management('exchanges/funcx/amq.default/publish', { method: 'POST', body: JSON.stringify(message) });
  expect(published).toEqual({ routed: true });
  await folderOfQueue();
  await killAndWait('rabbitmq');
  await until('the queue has its message', async () => (await queue()).messages === 1, { deadlineMs: AWAY_MS, everyMs: 1_000 });
}, 400_000);

/** A message goes through the queue; a queue without a leader answers nothing. */
async function passesAMessage(name: string): Promise<boolean> {
  const message = { properties: {}, routing_key: name, payload: 'new', payload_encoding: 'string' };
  await management('exchanges/funcx/amq.default/publish', { method: 'POST', body: JSON.stringify(message) });
  const ask = { count: 1, ackmode: 'ack_requeue_false', encoding: 'auto' };
  const signal = AbortSignal.timeout(5_000);
  const got = await management(`queues/funcx/${name}/get`, { method: 'POST', body: JSON.stringify(ask), signal });
  return Array.isArray(got) && got.length === 1;
}

test('a queue that was new when rabbitmq was killed takes messages when it is back', async () => {
  const hadNoLeader = (name: string): boolean => {
    const log = readFileSync(join(dataDir(), 'logs', 'supervisor.log'), 'utf8');
    return log.includes(`rabbitmq started without a leader for queue ${name};`);
  };
  // The node writes a new queue down half a second late, or sooner. A name that is used again may be found in an older place.
  for (let round = 1; ; round++) {
    const name = `new-queue-${round}`;
    try {
      await declare(name);
      await killAndWait('rabbitmq');
      await until('the queue passes a message', () => passesAMessage(name).catch(() => false), {
        deadlineMs: AWAY_MS,
        everyMs: 1_000,
      });
    } finally {
      await management(`queues/funcx/${name}`, { method: 'DELETE' });
    }
    if (hadNoLeader(name)) return;
    expect(round).toBeLessThan(6);
  }
}, 900_000);

const HANG_A_QUEUE = [
  `{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"funcx">>, queue, <<"hanging-queue">>))`,
  `Queue = amqqueue:get_pid(Q)`,
  // The suspension ends with the process that asked for it.
  `spawn(fun() -> erlang:suspend_process(Queue), timer:sleep(infinity) end)`,
  `timer:sleep(500)`,
];

/**
 * What a full disk did to the node: the message store died, and one queue hung at its end. Then the virtual host neither ends nor
 * starts again, and every other classic queue stays stopped.
 */
const STOP_CLASSIC_QUEUES = [
  ...HANG_A_QUEUE,
  `{ok, Vhost} = rabbit_vhost_sup_sup:get_vhost_sup(<<"funcx">>)`,
  `[exit(Store, kill) || {msg_store_persistent, Store, _, _} <- supervisor:which_children(Vhost)].`,
].join(', ');

/** The node closes its ports first, and then waits for its queues. */
const STOP_FOR_EVER = [...HANG_A_QUEUE, 'spawn(fun() -> rabbit:stop() end).'].join(', ');

test.each([
  [
    'whose classic queues are stopped',
    STOP_CLASSIC_QUEUES,
    /rabbitmq runs but does not serve: its queues? .* stopped; ending it/,
  ],
  ['that hangs while it stops', STOP_FOR_EVER, /rabbitmq runs but does not serve: it does not listen any more; ending it/],
])(
  'a node %s is started again, and tasks run',
  async (_, fault, line) => {
    await management('queues/funcx/hanging-queue', { method: 'PUT', body: JSON.stringify({ durable: true }) });
    try {
      const before = pidOf('rabbitmq');
      evaluateInBroker({ layout: layoutOf(dataDir()), state: state() }, fault);
      await until('rabbitmq was started again', () => pidOf('rabbitmq') !== before || undefined, {
        deadlineMs: AWAY_MS,
        everyMs: 1_000,
      });
      const log = readFileSync(join(dataDir(), 'logs', 'supervisor.log'), 'utf8');
      expect(log).toMatch(line);
      const { stdout, stderr } = funcx(
        ['run', 'test/fixtures/functions.py:add', '--endpoint', 'local', '--args', '[40, 2]'],
        {},
        AWAY_MS,
      );
      expect(stdout + stderr).toContain('42');
    } finally {
      await management('queues/funcx/hanging-queue', { method: 'DELETE' });
    }
  },
  400_000,
);
