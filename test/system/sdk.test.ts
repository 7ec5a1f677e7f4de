import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  Executor,
  python,
  pythonFile,
  SerializedValue,
  shell,
  TaskCancelledError,
  TaskError,
  type Client,
} from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { admin, localEndpoint, openTemporal, state, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

describe('the TypeScript client', () => {
  let client: Client;
  let executor: Executor;

  beforeAll(() => {
    client = sdkClient();
    executor = new Executor({ client, endpointId: localEndpoint() });
  });

  afterAll(async () => {
    await executor.close();
    client.close();
  });

  test('1,000 calls of an executor give 1,000 right values in at most 8 workflows of short histories', async () => {
    const group = new Executor({ client, endpointId: localEndpoint() });
    const cube = python<number>('def cube(n):\n    return n ** 3\n');
    const numbers = Array.from({ length: 1_000 }, (_, n) => n);
    const values = await Promise.all(group.map(cube, numbers));
    expect(values).toEqual(numbers.map((n) => n ** 3));
    await group.close();

    const submissions = (await client.submissions({ limit: 50 })).filter((s) => s.task_group_id === group.taskGroupId);
    expect(submissions.length).toBeLessThanOrEqual(8);
    expect(submissions.map(({ total }) => total).sort((a, b) => a - b)).toEqual([104, 128, 128, 128, 128, 128, 128, 128]);
    const temporal = await openTemporal();
    /** From workflow to tasks: submissions that arrive while another one starts share a workflow. */
    const totals = new Map<string, number>();
    for (const { submission_id: id, total } of submissions) {
      const workflowId = await workflowIdOf(id);
      totals.set(workflowId, (totals.get(workflowId) ?? 0) + total);
    }
    for (const [workflowId, total] of totals) {
      const handle = temporal.client.workflow.getHandle(workflowId);
      await handle.result();
      const description = await handle.describe();
      expect(description.historyLength).toBeLessThan(60);
      expect(await description.staticSummary()).toContain(`cube x${total} on local`);
    }
    await temporal.close();
  });

  test('a JavaScript function is sent by its text, and an asynchronous one is awaited', async () => {
    expect(await executor.submit((a: number, b: number) => a * b, 6, 7)).toBe(42);
    expect(await executor.submit(async (text: string) => text.toUpperCase(), 'done')).toBe('DONE');
  });

  test('a Python function takes keyword arguments and is read from a file with its imports', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'funcx-sdk-')), 'area.py');
    writeFileSync(
      file,
      'import math\n\ndef half(x):\n    return x / 2\n\ndef area(d, scale=1):\n    return math.floor(half(d) * scale)\n',
    );
    expect(await executor.call(pythonFile(file, 'area'), { args: [9], kwargs: { scale: 3 } })).toBe(13);
  });

  test('a shell command gives its output, and rejects when it fails', async () => {
    const echo = await executor.submit(shell('printf %s {0}'), 'two words; $HOME');
    expect(echo).toMatchObject({ returncode: 0, stdout: 'two words; $HOME' });
    await expect(executor.submit(shell('echo broken >&2; exit 3'))).rejects.toThrow(/broken[^]*exited with code 3/);
  });

  test('a failed function rejects with the traceback of the place where it ran', async () => {
    const boom = python('def boom(n):\n    raise ValueError(f"no {n}")\n');
    const error: unknown = await executor.submit(boom, 5).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(TaskError);
    expect((error as TaskError).code).toBe('RemoteExecutionError');
    expect((error as TaskError).message).toMatch(/Traceback[^]*raise ValueError[^]*ValueError: no 5/);
    expect((error as TaskError).taskId).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('a Python value that has no JSON comes back as an opaque value', async () => {
    const value = await executor.submit(python('def numbers():\n    return {1, 2}\n'));
    expect(value).toBeInstanceOf(SerializedValue);
  });

  test('the retries of an executor are spent on a function that fails at first', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'funcx-sdk-')), 'tries');
    const flaky = python(
      'def flaky(path):\n    with open(path, "a") as f:\n        f.write("x")\n    n = len(open(path).read())\n' +
        '    if n < 3:\n        raise TimeoutError(n)\n    return n\n',
    );
    const retrying = new Executor({
      client,
      endpointId: localEndpoint(),
      retries: { attempts: 3, backoffS: 0, on: ['TimeoutError'] },
    });
    expect(await retrying.submit(flaky, file)).toBe(3);
    await retrying.close();
    expect(readFileSync(file, 'utf8')).toBe('xxx');
  });

  test('cancelling a future stops a running function and rejects it as cancelled', async () => {
    const long = executor.submit(python('def long():\n    import time\n    time.sleep(600)\n'));
    const taskId = await long.taskId;
    await until('the task is in the hands of the agent', async () => (await client.task(taskId)).state !== 'waiting');
    expect(await long.cancel()).toBe(true);
    await expect(long).rejects.toBeInstanceOf(TaskCancelledError);
    expect(await long.cancel()).toBe(false);
    expect((await client.task(taskId)).state).toBe('cancelled');
  });

  test('a call that is cancelled before it was sent is never submitted', async () => {
    const slow = new Executor({ client, endpointId: localEndpoint(), batchDelayMs: 10_000 });
    const future = slow.submit(() => 1);
    expect(await future.cancel()).toBe(true);
    await expect(future).rejects.toBeInstanceOf(TaskCancelledError);
    await slow.close();
    expect((await client.submissions({ limit: 50 })).filter((s) => s.task_group_id === slow.taskGroupId)).toEqual([]);
  });

  test.each(['amqp', 'events', 'poll'] as const)('by %s, every call of a map settles with its own value', async (transport) => {
    const one = new Executor({ client, endpointId: localEndpoint(), transport });
    const values = await Promise.all(one.map((n: number) => n + 1, [1, 2, 3, 4, 5]));
    expect(one.transport).toBe(transport);
    await one.close();
    expect(values).toEqual([2, 3, 4, 5, 6]);
  });

  test('a process whose executor is closed ends by itself, also when nobody looked at a failed future', () => {
    const script = `
      const { Executor, python } = require(${JSON.stringify(join(__dirname, '..', '..', 'dist', 'sdk', 'index.js'))});
      const executor = new Executor({ endpointId: process.argv[1] });
      executor.submit(python('def fail():\\n    raise ValueError(1)\\n'));
      executor.submit(() => 1).then(() => executor.close()).then(() => console.log('closed'));
    `;
    const { api_url: url } = state();
    const { client_id: id, client_secret: secret } = admin();
    const ended = spawnSync(process.execPath, ['-e', script, localEndpoint()], {
      encoding: 'utf8',
      timeout: 30_000,
      env: { ...process.env, FUNCX_API_URL: url, FUNCX_CLIENT_ID: id, FUNCX_CLIENT_SECRET: secret },
    });
    expect(ended).toMatchObject({ status: 0, stdout: 'closed\n', stderr: '' });
  });

  test('an endpoint that does not exist rejects the call with the sentence of the service', async () => {
    const lost = new Executor({ client, endpointId: '11111111-1111-4111-8111-111111111111' });
    await expect(lost.submit(() => 1)).rejects.toMatchObject({ code: 'ENDPOINT_NOT_FOUND', status: 404 });
    await lost.close();
  });
});
