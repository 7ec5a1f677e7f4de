import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Pool } from 'pg';

import { tasksQueueName } from '../../contracts/names';
import { countsOf, raiseAlarm } from '../helpers/engine-faults';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Broker } from '../../broker';
import { dataDir, funcx, Http, management, openStore, serviceEnv, state } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * A memory alarm of the broker blocks everybody who publishes. Nobody knows then whether a message that was written counts,
 * and whoever writes the message again multiplies the load that caused the alarm.
 */

const TASKS = 300;
const ARGUMENT = 'x'.repeat(64 * 1024);
/** Several times longer than a publish may wait for its confirm. */
const BLOCKED_MS = 45_000;

const http = new Http();
let store: Pool;
let endpoint: StockEndpoint;

beforeAll(async () => {
  store = openStore();
  endpoint = await new StockEndpoint(new StockClient(await globusVenv()), 'blocked').configure();
  await endpoint.start();
}, 300_000);
afterAll(async () => {
  await endpoint?.stop();
  await store.end();
});

/** Everywhere where an operator looks; and no replica is taken out of service for it. */
async function untilBlockIsShown(): Promise<void> {
  const workers = `http://127.0.0.1:${state().ports.workersHealth}`;
  // A process knows once it has published something.
  const service = await until('a service knows that the broker is blocked', async () => {
    const metrics = {
      api: String(await http.ok('GET', '/metrics')),
      workers: await (await fetch(`${workers}/metrics`)).text(),
    };
    return (['api', 'workers'] as const).find((name) => /^funcx_broker_blocked 1$/m.test(metrics[name]));
  });
  const readiness = await fetch(`${service === 'api' ? state().api_url : workers}/readyz`);
  expect(readiness.status).toBe(200);
  expect(await readiness.json()).toMatchObject({ ready: true, engines: { rabbitmq: { ok: true, blocked: true } } });
  expect((await fetch(`${workers}/readyz`)).status).toBe(200);
  // Some seconds later: the broker's statistics have the alarm.
  await until('funcx status shows it', () => /^rabbitmq +BLOCKED/m.test(funcx(['status']).stdout), { everyMs: 1_000 });
  const { services } = JSON.parse(funcx(['status', '--json']).stdout) as { services: object[] };
  expect(services).toContainEqual(expect.objectContaining({ name: 'rabbitmq', blocked: true }));
  const log = readFileSync(join(dataDir(), 'logs', `${service}.log`), 'utf8');
  expect(log).toContain('the message broker is blocked: it accepts no messages until its alarm ends');
}

test('messages are acknowledged while a publish of the same process waits for the end of an alarm', async () => {
  const queue = 'acknowledged-while-blocked';
  const log = { info: () => undefined, warn: () => undefined };
  const address = (): Promise<{ url: string }> => Promise.resolve({ url: serviceEnv('workers').AMQP_URL ?? '' });
  const broker = new Broker({ name: queue, log, address });
  const publisher = await broker.publisher();
  await management(`queues/funcx/${queue}`, { method: 'PUT', body: JSON.stringify({ durable: true }) });
  try {
    await broker.start();
    const publish = (): Promise<void> => publisher.publish('', queue, Buffer.from('x'), { deadlineMs: 60_000 });
    await publish();
    const clear = raiseAlarm('memory');
    try {
      const waiting = publish();
      await until('the publish waits', () => broker.isBlocked);
      let received = 0;
      await broker.consume({
        queue,
        prefetch: 10,
        onMessage: (message) => {
          received++;
          message.ack();
        },
      });
      await until('the first message is acknowledged', async () => received === 1 && (await countsOf(queue)).messages === 0, {
        deadlineMs: 30_000,
      });
      clear();
      await waiting;
    } finally {
      clear();
    }
  } finally {
    await broker.close();
    await management(`queues/funcx/${queue}`, { method: 'DELETE' });
  }
}, 120_000);

const SOURCE = 'def size(n, text):\n    return n + len(text)\n';

test('300 tasks that are submitted while the broker blocks publishers for 45 s reach the endpoint once each', async () => {
  const size = await http.register('size', SOURCE);
  const { taskIds: first } = await http.submit(endpoint.id, size, [[1, '']]);
  expect(await http.value(first[0]!)).toBe(1); // its user endpoint is up
  const { rows } = await store.query<{ id: string }>('select endpoint_queue_id as id from tasks where id = $1', [first[0]]);
  const queue = tasksQueueName(rows[0]!.id);

  const clear = raiseAlarm('memory');
  let taskIds: string[];
  try {
    const calls = Array.from({ length: TASKS }, (_, n) => [n, ARGUMENT]);
    ({ taskIds } = await http.submit(endpoint.id, size, calls));
    await untilBlockIsShown();
    await delay(BLOCKED_MS); // the duration of the alarm is the subject
  } finally {
    clear();
  }

  const values = await Promise.all(taskIds.map((id) => http.value(id, 120_000)));
  expect(values).toEqual(taskIds.map((_, n) => n + ARGUMENT.length));
  const { rows: attempts } = await store.query(
    'select attempt, losses, count(*)::int from tasks where id = any ($1) group by 1, 2',
    [taskIds],
  );
  expect(attempts).toEqual([{ attempt: 1, losses: 0, count: TASKS }]);
  // The statistics are some seconds old; they never fall.
  await until('the broker has counted every message', async () => (await countsOf(queue)).published >= TASKS + 1);
  await delay(6_000); // one interval of the statistics more, for messages that must not be there
  expect((await countsOf(queue)).published).toBe(TASKS + 1);
}, 300_000);
