import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { groupBatchQueueName } from '../../contracts/names';
import { Executor, python, type Client } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { admin, localEndpoint, management, state } from '../helpers/system';

const TASKS = 120;
const SDK = join(__dirname, '..', '..', 'dist', 'sdk', 'index.js');
/** Prints its task group when everything is accepted, then a line for each value. */
const SUBMITTER = `
  const { Executor, python } = require(${JSON.stringify(SDK)});
  const executor = new Executor({ endpointId: process.argv[1], batchSize: 32 });
  const slow = python('def slow(n):\\n    import time\\n    time.sleep(0.02)\\n    if n % 10 == 7:\\n        raise ValueError(n)\\n    return n * n\\n');
  const futures = executor.map(slow, Array.from({ length: ${TASKS} }, (_, n) => n));
  Promise.all(futures.map((future) => future.taskId)).then(() => console.log(executor.taskGroupId));
  for (const future of futures) future.then(() => console.log('settled'), () => console.log('settled'));
`;

/** Starts a submitter and kills it once some of its futures are settled; returns its task group. */
async function killedSubmitter(): Promise<string> {
  const child = spawn(process.execPath, ['-e', SUBMITTER, localEndpoint()], {
    env: {
      ...process.env,
      FUNCX_API_URL: state().api_url,
      FUNCX_CLIENT_ID: admin().client_id,
      FUNCX_CLIENT_SECRET: admin().client_secret,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let group: string | undefined;
  let settled = 0;
  for await (const line of createInterface(child.stdout)) {
    if (line === 'settled') settled++;
    else group = line;
    if (group !== undefined && settled >= 10) break;
  }
  if (group === undefined) throw new Error('the submitter ended before its calls were accepted');
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
  expect(settled).toBeLessThan(TASKS);
  return group;
}

describe('when the process of a submitter is killed', () => {
  let client: Client;
  beforeAll(() => {
    client = sdkClient();
  });
  afterAll(() => client.close());

  test.each(['amqp', 'events', 'poll'] as const)(
    'a new one gets every result by task group over %s, each once',
    async (transport) => {
      const taskGroupId = await killedSubmitter();
      const executor = new Executor({ client, endpointId: localEndpoint(), taskGroupId, transport });
      const futures = await executor.reattach();
      expect(futures).toHaveLength(TASKS);
      let settled = 0;
      const count = (): number => settled++;
      for (const future of futures) future.then(count, count);

      const outcomes = await Promise.allSettled(futures);
      const values = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value as number] : []));
      const wanted = Array.from({ length: TASKS }, (_, n) => n);
      // Task ids tell the order within a request, not between requests that were under way at once.
      expect(values.sort((a, b) => a - b)).toEqual(wanted.filter((n) => n % 10 !== 7).map((n) => n * n));
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [String(outcome.reason)] : []));
      expect(failures.map((text) => Number(/ValueError: (\d+)/.exec(text)?.[1])).sort((a, b) => a - b)).toEqual(
        wanted.filter((n) => n % 10 === 7),
      );
      await executor.close();
      expect(settled).toBe(TASKS);
    },
  );

  test('results whose queue is gone are read from the store', async () => {
    const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp' });
    await executor.submit(() => 'first'); // the queue is there, and read
    const late = executor.submit(python('def late():\n    import time\n    time.sleep(3)\n    return "late"\n'));
    await late.taskId;
    const queue = encodeURIComponent(groupBatchQueueName(admin().client_id, executor.taskGroupId));
    await management(`queues/funcx/${queue}`, { method: 'DELETE' });
    expect(await late).toBe('late');
    expect(executor.transport).toBe('events');
    await executor.close();
  });

  test('a group that never had a queue is reattached to all the same', async () => {
    const functionId = await client.registerFunction(python('def same(n):\n    return n\n'));
    const calls = [1, 2, 3].map((n) => ({ functionId, args: [n] }));
    const { taskGroupId } = await client.submit(localEndpoint(), calls);
    const executor = new Executor({ client, endpointId: localEndpoint(), transport: 'amqp' });
    expect(await Promise.all(await executor.reattach(taskGroupId))).toEqual([1, 2, 3]);
    await executor.close();
  });

  test('further calls join the group that was reattached to', async () => {
    const first = new Executor({ client, endpointId: localEndpoint() });
    await first.submit(() => 'old');
    await first.close();
    const second = new Executor({ client, endpointId: localEndpoint(), taskGroupId: first.taskGroupId });
    const [old] = await second.reattach();
    expect(await second.submit(() => 'new')).toBe('new');
    expect(await old).toBe('old');
    await second.close();
    expect(await client.groupTaskIds(first.taskGroupId)).toHaveLength(2);
  });
});
