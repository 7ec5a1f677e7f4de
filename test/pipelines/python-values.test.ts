import { randomUUID } from 'node:crypto';

import type { Client } from '@temporalio/client';

import { nexusPythonWorker, replay, type Program } from '../helpers/pipelines';
import { Agent, Http, openTemporal, type Credentials } from '../helpers/system';

/** What a pipeline in Python sends and gets: its JSON has NaN, long integers, 1.0 and null in optional fields. */

let temporal: { client: Client; close(): Promise<void> };
let python: Program;
let agent: Agent;

/** Perhaps an installation, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  temporal = await openTemporal();
  const credentials = (await new Http().ok('POST', '/v1/identities', { name: `author-${randomUUID()}` })) as Credentials;
  agent = new Agent(`values-${randomUUID()}`, {}, credentials);
  python = nexusPythonWorker(credentials);
  await agent.start();
  python.start();
}, BUILD_MS);

afterAll(async () => {
  await Promise.all([python.stop(), agent.stop()]);
  await temporal.close();
});

interface Answer {
  text: string;
  workflowId: string;
}

async function ask(way: 'child' | 'nexus', operation: 'call' | 'map', text: string): Promise<Answer> {
  const workflowId = `python-values-${randomUUID()}`;
  const args = [way, operation, text.replaceAll('ENDPOINT', agent.name)];
  const taskQueue = python.args[1]!; // given by nexusPythonWorker
  return {
    text: await temporal.client.workflow.execute<() => Promise<string>>('PythonAsText', { taskQueue, workflowId, args } as never),
    workflowId,
  };
}

test.each(['child', 'nexus'] as const)(
  'arguments of a Python pipeline keep NaN, infinities, long integers and 1.0, as a call by %s',
  async (way) => {
    const args = '[NaN, -Infinity, 3544790567247868102, 1.0, 1e400, {"rate": 1e-05}]';
    const { text, workflowId } = await ask(
      way,
      'call',
      `{"function": "shown", "endpoint": "ENDPOINT", "args": ${args}, "kwargs": {"k": [2.0, 2]}}`,
    );
    expect(JSON.parse(text)).toEqual(["(nan, -inf, 3544790567247868102, 1.0, inf, {'rate': 1e-05})", "{'k': [2.0, 2]}"]);
    if (way === 'child') await replay(`${workflowId}/call`);
  },
);

test('values of a map keep 1.0, and one that JavaScript cannot hold is a reference that keeps it', async () => {
  const { text, workflowId } = await ask(
    'child',
    'map',
    '{"function": "same", "endpoint": "ENDPOINT", "args_list": [[1.0], [1], [NaN], [[2.50, 12345678901234567890]]]}',
  );
  expect(text).toMatch(/^\{"values": \[1\.0, 1, \{"\$funcx": "ref".*?\}, \{"\$funcx": "ref".*?\}\], "failures": \[\]\}$/);
  await replay(`${workflowId}/map`);
  const { values } = JSON.parse(text) as { values: unknown[] };
  const call = { function: 'shown', endpoint: 'ENDPOINT', args: values.slice(2) };
  const shown = JSON.parse((await ask('child', 'call', JSON.stringify(call))).text) as string[];
  expect(shown[0]).toBe('(nan, [2.5, 12345678901234567890])');
});

test.each(['child', 'nexus'] as const)('an input that is no call is refused with a sentence, by %s', async (way) => {
  expect((await ask(way, 'call', '{"function": NaN, "endpoint": 1}')).text).toMatch(
    /^FuncXRefused: Cannot decode the input of the call/,
  );
  expect((await ask(way, 'map', 'null')).text).toMatch(/^FuncXRefused: the input of the call is not well formed/);
});

test('a map of no calls has no values and no failures', async () => {
  const { text, workflowId } = await ask('child', 'map', '{"function": "same", "endpoint": "ENDPOINT", "args_list": []}');
  expect(text).toBe('{"values": [], "failures": []}');
  await replay(`${workflowId}/map`);
  expect((await ask('child', 'map', '{"function": "nothing", "endpoint": "ENDPOINT", "args_list": []}')).text).toMatch(
    /^FuncXRefused: no function nothing is visible to /,
  );
});

test('an optional field that is null is absent', async () => {
  const nulls = ['kwargs', 'policy', 'result', 'offline', 'progress', 'failure'].map((name) => `"${name}": null`).join(', ');
  const map = `{"function": "same", "endpoint": "ENDPOINT", "args_list": [[null], [3]], ${nulls}}`;
  expect((await ask('child', 'map', map)).text).toBe('{"values": [null, 3], "failures": []}');
  const policy =
    '{"retries": {"attempts": 2, "on": null, "exit_codes": null, "backoff_s": null}, "walltime_s": null, "deadline_s": 60.0}';
  const call = `{"function": "shown", "endpoint": "ENDPOINT", "args": null, "policy": ${policy}}`;
  expect(JSON.parse((await ask('nexus', 'call', call)).text)).toEqual(['()', '{}']);
});

test('a map with too many calls says the limit', async () => {
  const lists = JSON.stringify(Array.from({ length: 20_001 }, () => []));
  expect((await ask('child', 'map', `{"function": "same", "endpoint": "ENDPOINT", "args_list": ${lists}}`)).text).toMatch(
    /^FuncXRefused: .*at most 20,000 lists of arguments and this one has 20,001/s,
  );
});
