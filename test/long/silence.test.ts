import { setTimeout as delay } from 'node:timers/promises';

import type { Pool } from 'pg';

import { tasksQueueName } from '../../contracts/names';
import { countsOf, freeze, freezeFor, keepAway } from '../helpers/engine-faults';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Http, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * While the broker or `workers` are away nobody can hear an agent. Its silence proves nothing then: what it holds must not be
 * sent again.
 */

/** Five heartbeat periods of the stock endpoint, of 5 s each; after 2.5 without a heartbeat it would count as offline. */
const AWAY_MS = 5 * 5_000;
/** The calls still run when everything is back. */
const CALL_S = 45;
/** It still runs when the step that did not see its confirm is repeated, which is at most 10 s later. */
const LATE_CALL_S = 20;
const TASKS = 2; // as many as its workers
/** The broker collects its statistics every 5 s. */
const STATISTICS_MS = 6_000;

const http = new Http();
let store: Pool;
let endpoint: StockEndpoint;
let nap: string;

beforeAll(async () => {
  store = openStore();
  endpoint = await new StockEndpoint(new StockClient(await globusVenv()), 'unheard').configure();
  await endpoint.start();
  nap = await http.register('nap', 'def nap(n, seconds):\n    import time\n    time.sleep(seconds)\n    return n\n');
  const taskId = await http.submitOne(endpoint.id, nap, [0, 0]);
  await http.value(taskId);
}, 300_000);
afterAll(async () => {
  await endpoint?.stop();
  await store.end();
});

/** Messages that were ever sent to the user endpoint, as far as the statistics know. */
async function countSentSoFar(): Promise<number> {
  const { rows } = await store.query<{ id: string }>(
    'select id from endpoint_queues where endpoint_id = $1 and owner_id is not null',
    [endpoint.id],
  );
  return (await countsOf(tasksQueueName(rows[0]!.id))).published;
}

/** The same once the statistics have caught up. */
async function countSent(): Promise<number> {
  await delay(STATISTICS_MS);
  return countSentSoFar();
}

test.each([
  ['workers are silent', () => freezeFor('workers', AWAY_MS)],
  ['workers are away', () => keepAway('workers', AWAY_MS)],
  ['the broker is silent', () => freezeFor('rabbitmq', AWAY_MS)],
  ['the broker is away', () => keepAway('rabbitmq', AWAY_MS)],
] as const)(
  'while %s for five heartbeat periods, no running task of a stock endpoint is sent again',
  async (what, takeAway) => {
    const before = await countSent();
    const { taskIds } = await http.submit(
      endpoint.id,
      nap,
      Array.from({ length: TASKS }, (_, n) => [n, CALL_S]),
    );
    await until('every task is sent', async () => (await countSentSoFar()) === before + TASKS);
    await takeAway();
    expect(await Promise.all(taskIds.map((id) => http.value(id, 150_000)))).toEqual(taskIds.map((_, n) => n));
    const { rows } = await store.query('select attempt, losses from tasks where id = any ($1)', [taskIds]);
    expect(rows).toEqual(taskIds.map(() => ({ attempt: 1, losses: 0 })));
    if (what === 'the broker is away') return; // the next broker counts from nothing
    expect(await countSent()).toBe(before + TASKS);
  },
  300_000,
);

test('a task of a stock endpoint that is submitted while the broker is silent is sent once', async () => {
  const before = await countSent();
  const thaw = freeze('rabbitmq');
  let taskIds: string[];
  try {
    ({ taskIds } = await http.submit(
      endpoint.id,
      nap,
      Array.from({ length: TASKS }, (_, n) => [n, LATE_CALL_S]),
    ));
    await delay(AWAY_MS); // longer than a step of a workflow waits for its dispatch
  } finally {
    thaw();
  }
  expect(await Promise.all(taskIds.map((id) => http.value(id, 150_000)))).toEqual(taskIds.map((_, n) => n));
  expect(await countSent()).toBe(before + TASKS);
}, 300_000);
