import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { connect, type ChannelModel } from 'amqplib';

import { isBatch } from '../../contracts/batches';
import { decodeFrame } from '../../contracts/frames';
import { groupBatchQueueName, groupQueueName } from '../../contracts/names';
import { Executor, python, type Client } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { admin, Http, localEndpoint, management, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * A task group with a reader that understands batches (our executor) and one that does not (a stock client, here an AMQP
 * consumer that does what it does). No message of one queue may take an answer from the other reader.
 */

const http = new Http();
const NUMBERS = Array.from({ length: 40 }, (_, n) => n);
const AFTER_FILE =
  'def after(path, n):\n    import os, time\n    while not os.path.exists(path):\n        time.sleep(0.02)\n    return n\n';

const folder = mkdtempSync(join(tmpdir(), 'funcx-mixed-readers-'));
let client: Client;
let model: ChannelModel;
beforeAll(async () => {
  client = sdkClient();
  const connection = await http.ok('GET', '/v2/get_amqp_result_connection_url');
  const ca = state().ca_file;
  model = await connect(connection.connection_url as string, ca === null ? {} : { ca: [readFileSync(ca)] });
});
afterAll(async () => {
  client.close();
  await model.close();
  rmSync(folder, { recursive: true });
});

/** Consumes as a stock client does: every message is one result. Returns the IDs of the tasks so far. */
async function readAsStock(groupId: string): Promise<string[]> {
  const ids: string[] = [];
  const channel = await model.createChannel();
  await channel.consume(groupQueueName(admin().client_id, groupId), (message) => {
    if (!message) return;
    const frame = decodeFrame(message.content);
    if (frame.message_type === 'result') ids.push(frame.data.task_id);
    channel.ack(message);
  });
  return ids;
}

const queueExists = async (name: string): Promise<boolean> =>
  ((await management('queues/funcx?columns=name')) as { name: string }[]).some((queue) => queue.name === name);

test('an executor gets results in batches, and its group has no other queue', async () => {
  const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp', batchSize: 1_000 });
  expect(await Promise.all(executor.map(python('def same(n):\n    return n\n'), NUMBERS))).toEqual(NUMBERS);
  expect(executor.transport).toBe('amqp');
  expect(await queueExists(groupBatchQueueName(admin().client_id, executor.taskGroupId))).toBe(true);
  expect(await queueExists(groupQueueName(admin().client_id, executor.taskGroupId))).toBe(false);
  await executor.close();
});

test('a stock client that reloads the group of a running executor gets the open tasks, and so does the executor', async () => {
  const file = join(folder, 'executor');
  const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp' });
  const done = executor.submit(python('def first():\n    return "first"\n'));
  expect(await done).toBe('first');
  const functionId = await client.registerFunction(python(AFTER_FILE));
  const open = NUMBERS.map((n) => executor.submit(functionId, file, n));
  const openIds = await Promise.all(open.map((future) => future.taskId));

  const group = await http.ok('GET', `/v2/taskgroup/${executor.taskGroupId}`);
  expect(new Set((group.tasks as { id: string }[]).map(({ id }) => id))).toEqual(new Set([await done.taskId, ...openIds]));
  const stock = await readAsStock(executor.taskGroupId);
  writeFileSync(file, '');

  expect(await Promise.all(open)).toEqual(NUMBERS);
  await until('the stock client has every open task', () => new Set(stock).size === NUMBERS.length);
  expect(new Set(stock)).toEqual(new Set(openIds));
  await executor.close();
});

test('an executor that reattaches to the group of a stock client takes none of its results away', async () => {
  const file = join(folder, 'stock');
  const functionId = await http.register('after', AFTER_FILE);
  const calls = NUMBERS.map((n) => [file, n]);
  const { taskIds, groupId } = await http.submit(localEndpoint(), functionId, calls, { create_queue: true });
  const stock = await readAsStock(groupId);
  const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp' });
  const futures = await executor.reattach(groupId);
  writeFileSync(file, '');

  expect(await Promise.all(futures)).toEqual(NUMBERS);
  await until('the stock client has every task', () => new Set(stock).size === NUMBERS.length);
  expect(new Set(stock)).toEqual(new Set(taskIds));
  await executor.close();
});

test.each([['before an executor reattaches'], ['while an executor reads it']])(
  'a batch queue that is lost %s costs no result, and the stock client keeps its own',
  async (when) => {
    const file = join(folder, `lost ${when}`);
    const functionId = await http.register('after', AFTER_FILE);
    const calls = NUMBERS.map((n) => [file, n]);
    const options = { create_queue: true, result_batches: true };
    const { taskIds, groupId } = await http.submit(localEndpoint(), functionId, calls, options);
    await http.ok('GET', `/v2/taskgroup/${groupId}`); // as a stock client does that reloads the group
    const stock = await readAsStock(groupId);
    const channel = await model.createChannel();
    const batchQueue = groupBatchQueueName(admin().client_id, groupId);
    const lose = (): Promise<unknown> => management(`queues/funcx/${batchQueue}`, { method: 'DELETE' });
    if (when.startsWith('before')) await lose();
    const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp' });
    const futures = await executor.reattach(groupId);
    if (when.startsWith('while')) {
      await until('the executor reads its queue', async () => (await channel.checkQueue(batchQueue)).consumerCount === 1);
      await lose();
    }
    writeFileSync(file, '');

    expect(await Promise.all(futures)).toEqual(NUMBERS);
    await until('the stock client has every task', () => new Set(stock).size === NUMBERS.length);
    expect(new Set(stock)).toEqual(new Set(taskIds));
    await executor.close();
    await channel.close();
  },
);

test('results that wait for an executor lie in few messages', async () => {
  const same = await http.register('same', 'def same(n):\n    return n\n');
  const calls = Array.from({ length: 1_000 }, (_, n) => [n]);
  const { taskIds, groupId } = await http.submit(localEndpoint(), same, calls, { create_queue: true, result_batches: true });
  const store = openStore();
  await until('every answer is delivered', async () => {
    const { rows } = await store.query('select 1 from tasks where task_group_id = $1 and delivered_at is null limit 1', [
      groupId,
    ]);
    return rows.length === 0;
  });
  await store.end();
  const channel = await model.createChannel();
  const queue = groupBatchQueueName(admin().client_id, groupId);
  let messages = 0;
  for (let message = await channel.get(queue); message; message = await channel.get(queue)) {
    messages++;
    if (isBatch(message.content)) expect(message.content.length).toBeLessThan(300_000);
    channel.ack(message);
  }
  expect(taskIds).toHaveLength(1_000);
  expect(messages).toBeLessThan(500);
});
