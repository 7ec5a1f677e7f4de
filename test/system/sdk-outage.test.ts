import { groupBatchQueueName } from '../../contracts/names';
import { layoutOf } from '../../local/machine/layout';
import { Executor, python, type Client } from '../../sdk/index';
import { evaluateInBroker } from '../helpers/broker-node';
import { sdkClient } from '../helpers/sdk';
import { admin, dataDir, killAndWait, localEndpoint, management, state } from '../helpers/system';
import { until } from '../helpers/until';

const TASKS = 300;
const double = python<number>('def double(n):\n    import time\n    time.sleep(0.01)\n    return 2 * n\n');

describe('while a part of the service is away', () => {
  let client: Client;
  beforeAll(() => {
    client = sdkClient();
  });
  afterAll(() => client.close());

  test('kill -9 of the api amid the requests of an executor: every call is accepted once and gets its value', async () => {
    const executor = new Executor({ client, endpointId: localEndpoint(), batchSize: 10, transport: 'events' });
    const futures = executor.map(
      double,
      Array.from({ length: TASKS }, (_, n) => n),
    );
    await futures[0]?.taskId;
    await killAndWait('api');
    expect(await Promise.all(futures)).toEqual(Array.from({ length: TASKS }, (_, n) => 2 * n));
    await executor.close();
    expect(await client.groupTaskIds(executor.taskGroupId)).toHaveLength(TASKS);
  });

  test('kill -9 of the broker amid the results: each future settles, and further calls work', async () => {
    const executor = new Executor({ client, endpointId: localEndpoint() });
    let settled = 0;
    const count = (): number => settled++;
    const futures = executor.map(
      double,
      Array.from({ length: TASKS }, (_, n) => n),
    );
    for (const future of futures) future.then(count, count);
    await until('the first results came over AMQP', () => settled > 0 && executor.transport === 'amqp');
    await killAndWait('rabbitmq');
    expect(await Promise.all(futures)).toEqual(Array.from({ length: TASKS }, (_, n) => 2 * n));
    expect(settled).toBe(TASKS);
    expect(await executor.submit(double, 21)).toBe(42);
    await executor.close();
  });

  test('a result queue that crashed: results come over HTTP until it is back, then over AMQP again', async () => {
    const executor = new Executor({ client, endpointId: localEndpoint() });
    expect(await executor.submit(double, 20)).toBe(40);
    await until('results come over AMQP', () => executor.transport === 'amqp');
    await crashQueue(executor);
    await until('results come over HTTP', () => executor.transport !== 'amqp');
    expect(await executor.submit(double, 21)).toBe(42);
    await killAndWait('rabbitmq'); // its queues start with it
    await until('results come over AMQP again', () => executor.transport === 'amqp', { deadlineMs: 60_000 });
    expect(await executor.submit(double, 22)).toBe(44);
    await executor.close();
  });
});

/** As it is after a start for which its files could not be read. */
async function crashQueue(executor: Executor): Promise<void> {
  const name = groupBatchQueueName(admin().client_id, executor.taskGroupId);
  evaluateInBroker(
    { layout: layoutOf(dataDir()), state: state() },
    `Name = rabbit_misc:r(<<"funcx">>, queue, <<"${name}">>),
     Crash = fun () -> rabbit_amqqueue:update(Name, fun (Queue) -> amqqueue:set_state(Queue, crashed) end) end,
     rabbit_misc:execute_mnesia_transaction(Crash).`,
  );
  const { connections } = await until('the broker lists the connection', async () => {
    const all = (await management('connections')) as { name: string; user_provided_name?: string }[];
    const found = all.filter(({ user_provided_name: given }) => given === `results of ${executor.taskGroupId}`);
    return found.length > 0 ? { connections: found } : undefined;
  });
  for (const connection of connections)
    await management(`connections/${encodeURIComponent(connection.name)}`, { method: 'DELETE' });
}
