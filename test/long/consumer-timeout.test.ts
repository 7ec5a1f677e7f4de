import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packJsonArguments, splitBuffer, JSON_RESULT_SERIALIZER } from '../../contracts/packing';
import { evaluateInBroker } from '../helpers/broker-node';
import { OwnSystem } from '../helpers/own-system';
import { until } from '../helpers/until';

/** A broker that takes a delivery away (406) which is not acknowledged in time: the call goes on, and is not run again. */

const CONSUMER_TIMEOUT_MS = 20_000;
const CALL_S = 45;

let system: OwnSystem;
beforeAll(async () => {
  system = await OwnSystem.start({ FUNCX_RABBITMQ_CONSUMER_TIMEOUT_MS: String(CONSUMER_TIMEOUT_MS) });
  // Channels look at their deliveries once a minute; those that are opened from now on, every second.
  evaluateInBroker(system, 'application:set_env(rabbit, channel_tick_interval, 1000).');
  await Promise.all([system.run('api'), system.run('workers')]);
  await system.run('endpoint');
}, 120_000);
afterAll(() => system.stop(), 60_000);

test('a call that runs longer than the consumer timeout of the broker runs once and is answered once', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-consumer-timeout-')), 'runs');
  const source =
    'def slow(path, s):\n    import time\n    with open(path, "a") as f:\n        f.write("run\\n")\n    time.sleep(s)\n    return s';
  const slow = await system.register('slow', source, 'python');
  const endpointId = system.endpointId();
  const { tasks, task_group_id: groupId } = await system.request('POST', `/v3/endpoints/${endpointId}/submit`, {
    tasks: { [slow]: [packJsonArguments([file, CALL_S])] },
    create_queue: true,
    result_serializers: [JSON_RESULT_SERIALIZER],
  });
  const [taskId] = tasks[slow] as string[];
  const log = (name: string): string => readFileSync(join(system.layout.logsDir, `${name}.log`), 'utf8');
  await until('the broker takes the delivery away', () => /PRECONDITION_FAILED.*delivery acknowledgement/.test(log('endpoint')), {
    deadlineMs: 40_000,
  });
  expect(log('rabbitmq')).toMatch(/has timed out waiting for delivery acknowledgement/i);
  expect(await system.request('GET', `/v1/tasks/${taskId}`)).toMatchObject({ state: 'running' });

  const answer = await until(
    'it is answered',
    async () => {
      const document = await system.request('GET', `/v1/tasks/${taskId}?wait_s=5`);
      return ['success', 'failed'].includes(document.status as string) ? (document as Record<string, string>) : undefined;
    },
    { deadlineMs: 60_000 },
  );
  expect(answer).toMatchObject({ status: 'success', state: 'succeeded' });
  expect(JSON.parse(splitBuffer(answer.result ?? '').body)).toBe(CALL_S);
  await until('it is finished', async () => {
    return (await system.request('GET', `/v1/taskgroups/${groupId}/results?after=0`)).results.length === 1;
  });
  expect(readFileSync(file, 'utf8')).toBe('run\n');
  const metrics = await system.workersMetrics();
  expect(metrics).toMatch(/funcx_results_total\{verdict="stored"\} 1$/m);
  expect(metrics).not.toMatch(/funcx_results_total\{verdict="duplicate"\}/);
});
