import { hostname } from 'node:os';

import { tasksQueueName } from '../../contracts/names';
import {
  Agent,
  funcx,
  Http,
  killAndWait,
  localEndpoint,
  management,
  openTemporal,
  startFuncx,
  state,
  workflowIdOf,
} from '../helpers/system';
import { until } from '../helpers/until';

const HELLO = 'def hello(name):\n    import platform\n    return f"Hello {name} from {platform.node()}"\n';

describe('one task through all the real parts', () => {
  const http = new Http();

  test('up greets from the local endpoint and names its task', () => {
    const { hello } = state();
    expect(hello?.value).toBe(`Hello from ${hostname()}`);
    expect(hello?.task_id).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("a submission's history shows the dispatch and the completion signal, and its summary says what it is", async () => {
    const functionId = await http.register('hello', HELLO);
    const { taskIds } = await http.submit(localEndpoint(), functionId, [['Ada']]);
    const [taskId = ''] = taskIds;
    expect(await http.value(taskId)).toBe(`Hello Ada from ${hostname()}`);

    const temporal = await openTemporal();
    try {
      const handle = temporal.client.workflow.getHandle(await workflowIdOf(taskId));
      expect(await handle.result()).toEqual({ state: 'done', counts: { succeeded: 1 } });
      const { events } = await handle.fetchHistory();
      const markers = (events ?? []).filter((event) => event.markerRecordedEventAttributes?.markerName === 'core_local_activity');
      const marked = markers.map((event) => {
        const data = event.markerRecordedEventAttributes?.details?.data?.payloads?.[0]?.data;
        return data ? (JSON.parse(Buffer.from(data).toString('utf8')) as { activity_type: string }).activity_type : '';
      });
      expect(marked[0]).toBe('dispatch');
      const signals = (events ?? []).map((event) => event.workflowExecutionSignaledEventAttributes?.signalName).filter(Boolean);
      expect(signals).toContain('nudge');
      const description = await handle.describe();
      expect(await description.staticSummary()).toBe('hello on local for admin');
      expect(description.typedSearchAttributes.getAll().map((pair) => pair.key.name)).toEqual(
        expect.arrayContaining(['FuncXEndpoint', 'FuncXFunction', 'FuncXOwner', 'FuncXTaskGroup', 'FuncXState']),
      );
    } finally {
      await temporal.close();
    }
  });

  test("each call is one message through the endpoint's own queue", async () => {
    const agent = await new Agent('counted').start();
    try {
      const functionId = await http.register('hello', HELLO);
      const taskId = await http.submitOne(agent.id, functionId, ['Grace']);
      await http.value(taskId);
      const published = await until("the broker's statistics show the message", async () => {
        const queue = await management(`queues/funcx/${encodeURIComponent(tasksQueueName(agent.id))}`);
        return (queue.message_stats?.publish as number | undefined) || undefined;
      });
      expect(published).toBe(1);
    } finally {
      await agent.stop();
    }
  });

  test('with its agent stopped a call waits instead of answering, and runs once the agent is back', async () => {
    const agent = await new Agent('sleepy').start();
    const functionId = await http.register('hello', HELLO);
    await agent.stop();
    await agent.untilOffline();
    const { taskIds } = await http.submit(agent.id, functionId, [['Alan']]);
    const [taskId = ''] = taskIds;
    const queue = await management(`queues/funcx/${encodeURIComponent(tasksQueueName(agent.id))}`);
    expect(queue.messages ?? 0).toBe(0);
    expect((await http.task(taskId)).status).toBe('waiting-for-ep');
    await agent.start();
    try {
      expect(await http.value(taskId)).toBe(`Hello Alan from ${hostname()}`);
    } finally {
      await agent.stop();
    }
  });

  test('a value arrives although the API and the workers were killed while its agent was away', async () => {
    const agent = await new Agent('survivor').start();
    const functionId = await http.register('hello', HELLO);
    await agent.stop();
    await agent.untilOffline();
    const taskId = await http.submitOne(agent.id, functionId, ['Edsger']);
    await Promise.all([killAndWait('api'), killAndWait('workers')]);
    await agent.start();
    try {
      expect(await http.value(taskId)).toBe(`Hello Edsger from ${hostname()}`);
    } finally {
      await agent.stop();
    }
  });

  test('the command line runs a function of a file and prints its value', () => {
    const file = `${__dirname}/../fixtures/functions.py`;
    const { stdout, stderr, status } = funcx(['run', `${file}:add`, '--endpoint', 'local', '--args', '[2, 3]']);
    expect({ stderr, status }).toEqual({ stderr: expect.any(String), status: 0 });
    expect(stdout.trim().split('\n').at(-1)).toBe('5');
  });
});

describe('the command line and an endpoint whose agent is stopped', () => {
  const file = `${__dirname}/../fixtures/functions.py`;

  test('run waits instead of answering, says why, and prints the value once the agent is back', async () => {
    const agent = await new Agent('napping').start();
    await agent.stop();
    await agent.untilOffline();
    const running = startFuncx(['run', `${file}:add`, '--endpoint', agent.id, '--args', '[2, 3]']);
    const told = await until(
      'it says why it waits',
      () => /Task (\S+) has no answer yet: (.*)\n/.exec(running.stderr()) ?? undefined,
    );
    expect(told[2]).toBe('its endpoint is offline; the task runs when the endpoint is back.');
    expect(running.stdout()).toBe('');
    expect((await new Http().task(told[1] ?? '')).status).toBe('waiting-for-ep');
    await agent.start();
    try {
      expect(await running.exit).toBe(0);
      expect(running.stdout()).toBe('5\n');
    } finally {
      await agent.stop();
    }
  });

  test('Ctrl-C ends the waiting, not the task, and says how to find it again', async () => {
    const agent = await new Agent('snoozing').start();
    await agent.stop();
    await agent.untilOffline();
    const running = startFuncx(['run', `${file}:add`, '--endpoint', agent.id, '--args', '[2, 3]']);
    await until('it waits', () => running.stderr().includes('has no answer yet') || undefined);
    running.kill('SIGINT');
    expect(await running.exit).toBe(130);
    const [, taskId = ''] = /Task (\S+) continues: "funcx task/.exec(running.stderr()) ?? [];
    expect(JSON.parse(funcx(['task', taskId, '--json']).stdout)).toMatchObject({ state: 'waiting' });
    expect(funcx(['cancel', 'task', taskId])).toMatchObject({ status: 0 });
  });
});

describe('what is refused says why', () => {
  const http = new Http();
  const nobody = '00000000-0000-4000-8000-000000000000';

  test.each([
    [
      'a wrong token',
      401,
      'UNAUTHENTICATED',
      () => http.request('GET', '/v2/endpoints', undefined, { authorization: 'Bearer wrong' }),
    ],
    ['an unknown function', 404, 'FUNCTION_NOT_FOUND', () => http.request('GET', `/v2/functions/${nobody}`)],
    ['an unknown endpoint', 404, 'ENDPOINT_NOT_FOUND', () => http.request('GET', `/v2/endpoints/${nobody}/status`)],
    ['a malformed body', 422, 'INVALID_REQUEST', () => http.request('POST', '/v3/functions', '{"function_name": ')],
    ['an unknown task', 404, 'TASK_NOT_FOUND', () => http.request('GET', `/v2/tasks/${nobody}`)],
  ])('%s is answered %d %s', async (_what, status, code, request) => {
    const reply = await request();
    expect(reply.status).toBe(status);
    expect(reply.body).toMatchObject({ code, message: expect.stringMatching(/\w+ \w+/), request_id: expect.any(String) });
  });

  test('an argument over the limit is answered 413 PAYLOAD_TOO_LARGE', async () => {
    const functionId = await http.register('hello', HELLO);
    const body = {
      create_queue: false,
      tasks: { [functionId]: [`10485770\n11\n${'x'.repeat(10_485_770)}`] },
      user_runtime: {},
    };
    const reply = await http.request('POST', `/v3/endpoints/${localEndpoint()}/submit`, body);
    expect(reply.status).toBe(413);
    expect(reply.body.code).toBe('PAYLOAD_TOO_LARGE');
  });
});
