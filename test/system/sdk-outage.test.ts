import { Executor, python, type Client } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { killAndWait, localEndpoint } from '../helpers/system';
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
});
