import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Agent, Http, openStore } from '../helpers/system';

/** Retries by policy: attempts, which exceptions, which exit codes; of the request, of the function, and in the Globus way. */

const http = new Http();
const dir = mkdtempSync(join(tmpdir(), 'funcx-retry-'));
const agent = new Agent('retry', { FUNCX_WORKERS: '2' });
let flaky: string;

const FLAKY =
  'def flaky(path, good_at, kind="TimeoutError"):\n    with open(path, "a") as f:\n        f.write("x")\n' +
  '    n = len(open(path).read())\n    if n < good_at:\n        raise {"TimeoutError": TimeoutError, "ValueError": ValueError}[kind]("try %d" % n)\n' +
  '    return n';

beforeAll(async () => {
  await agent.start();
  flaky = await http.register('flaky', FLAKY);
});
afterAll(() => agent.stop());

const file = (name: string): string => join(dir, name);
const calls = (name: string): number => readFileSync(file(name), 'utf8').length;
const retries = (attempts: number, more: object = {}) => ({
  resource_specification: { funcx: { retries: { attempts, backoff_s: 0.1, ...more } } },
});

test('a function that fails is not tried again unless it is asked for', async () => {
  const taskId = await http.submitOne(agent.id, flaky, [file('once'), 2]);
  expect(await http.answer(taskId)).toMatchObject({ state: 'failed', attempt: 1, error_code: 'RemoteExecutionError' });
  expect(calls('once')).toBe(1);
});

test('a function that fails twice succeeds at its third attempt', async () => {
  const taskId = await http.submitOne(agent.id, flaky, [file('thrice'), 3], retries(3));
  expect(await http.value(taskId)).toBe(3);
  expect(await http.task(taskId)).toMatchObject({ state: 'succeeded', attempt: 3 });
});

test('after the last attempt the last failure is the answer', async () => {
  const taskId = await http.submitOne(agent.id, flaky, [file('spent'), 9], retries(2));
  const answer = await http.answer(taskId);
  expect(answer).toMatchObject({ state: 'failed', attempt: 2 });
  expect(answer.exception).toContain('try 2');
  expect(calls('spent')).toBe(2);
});

test('only the exceptions that are named are tried again', async () => {
  const policy = retries(3, { on: ['TimeoutError'] });
  const { taskIds } = await http.submit(
    agent.id,
    flaky,
    [
      [file('named'), 2, 'TimeoutError'],
      [file('other'), 2, 'ValueError'],
    ],
    policy,
  );
  expect(await http.value(taskIds[0] ?? '')).toBe(2);
  expect(await http.answer(taskIds[1] ?? '')).toMatchObject({ state: 'failed', attempt: 1 });
  expect(calls('other')).toBe(1);
});

test('the policy of a function holds where the request says nothing, and the request may say otherwise', async () => {
  const patient = await http.register('flaky', FLAKY, 'python', { policy: { retries: { attempts: 2, backoff_s: 0.1 } } });
  const own = await http.submit(agent.id, patient, [[file('own'), 2]]);
  expect(await http.value(own.taskIds[0] ?? '')).toBe(2);
  const refused = await http.submit(agent.id, patient, [[file('refused'), 2]], retries(1));
  expect(await http.answer(refused.taskIds[0] ?? '')).toMatchObject({ state: 'failed', attempt: 1 });
});

test('a worker that dies is a loss of the service, and the attempts of the user stay whole', async () => {
  const source =
    'def fragile(path):\n    import os\n    with open(path, "a") as f:\n        f.write("x")\n    n = len(open(path).read())\n' +
    '    if n == 1:\n        os._exit(9)\n    if n == 2:\n        raise TimeoutError("once")\n    return n';
  const fragile = await http.register('fragile', source);
  const taskId = await http.submitOne(agent.id, fragile, [file('fragile')], retries(2));
  expect(await http.value(taskId)).toBe(3);
  const store = openStore();
  const { rows } = await store.query('select attempt, losses from tasks where id = $1', [taskId]);
  expect(rows).toEqual([{ attempt: 3, losses: 1 }]);
  await store.end();
});
