import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client, WorkflowHandle } from '@temporalio/client';

import { buildExamples, nexusPythonWorker, testWorker, type Program } from '../helpers/pipelines';
import { Agent, Http, isAlive, openTemporal, type Credentials } from '../helpers/system';
import { until } from '../helpers/until';

/** Calls as Nexus operations, from Temporal's own SDKs: by the names of endpoint, service and operation, and JSON. */

let temporal: { client: Client; close(): Promise<void> };
let python: Program;
/** Who registered the Python pipeline's task queue; nobody else sees the endpoint. */
let author: Agent;
const typescript = testWorker();
const shared = new Agent(`shared-${randomUUID()}`);

/** Two compilations, perhaps an installation, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  buildExamples();
  temporal = await openTemporal();
  const name = `author-${randomUUID()}`;
  const credentials = (await new Http().ok('POST', '/v1/identities', { name })) as Credentials;
  author = new Agent(`private-${randomUUID()}`, {}, credentials);
  python = nexusPythonWorker(credentials);
  await Promise.all([author.start(), shared.start()]);
  python.start();
  typescript.start();
}, BUILD_MS);

afterAll(async () => {
  await Promise.all([python.stop(), typescript.stop(), author.stop(), shared.stop()]);
  await temporal.close();
});

const start = (type: string, taskQueue: string, args: unknown[]): Promise<WorkflowHandle> =>
  temporal.client.workflow.start(type, { taskQueue, workflowId: `${type}-${randomUUID()}`, args });
const inPython = (fn: string, args: unknown[], endpoint = author.name) =>
  start('PythonThroughNexus', python.args[1]!, [fn, endpoint, args]); // given by nexusPythonWorker
const inTypeScript = (type: string, args: unknown[]) => start(type, 'test-pipelines', args);

interface HeldUp {
  pipeline: WorkflowHandle;
  started: string;
}

/** Cancels a pipeline while its only call runs. */
async function cancelHeldUp({ pipeline, started }: HeldUp): Promise<void> {
  await until('the call runs', () => existsSync(started));
  await pipeline.cancel();
  await expect(pipeline.result()).rejects.toThrow(/cancel/i);
  await until('the function is stopped', () => !isAlive(Number(readFileSync(started, 'utf8'))));
}

const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'funcx-nexus-')), 'started');

test('a pipeline in Python calls through Nexus as the author who registered its task queue, and gets the value', async () => {
  expect(await (await inPython('root', [144])).result()).toBe(12);
});

test('an endpoint that its author does not see is refused to a pipeline in Python through Nexus', async () => {
  expect(await (await inPython('root', [144], shared.name)).result()).toMatchObject({
    type: 'FuncXRefused',
    message: expect.stringContaining(`no endpoint named ${shared.name} is visible to`),
  });
});

test('a call that fails through Nexus has the remote traceback in Python', async () => {
  expect(await (await inPython('root', [-1])).result()).toMatchObject({
    type: 'FuncXTaskError',
    message: expect.stringContaining('math domain error'),
    details: [{ exception: 'ValueError', traceback: expect.stringContaining('return math.sqrt(n)') }],
  });
});

test('a cancelled pipeline in Python cancels its call through Nexus, and the function is stopped', async () => {
  const started = newFile();
  await cancelHeldUp({ pipeline: await inPython('until_file', [started, '/nowhere']), started });
});

test('a map through Nexus gives the values in order, and its call is found beside its pipeline', async () => {
  const pipeline = await inTypeScript('squareThroughNexus', [shared.name, [2, 3, 4]]);
  expect(await pipeline.result()).toEqual({ values: [4, 9, 16], failures: [] });
  const query = `WorkflowId STARTS_WITH '${pipeline.workflowId}/square'`;
  await until('the call is listed', async () => {
    for await (const { type } of temporal.client.workflow.list({ query })) return type === 'funcxMap';
    return false;
  });
});

test('a call that fails through Nexus is a typed failure with the remote traceback in TypeScript', async () => {
  expect(await (await inTypeScript('squareThroughNexus', [shared.name, [-1]])).result()).toMatchObject({
    type: 'FuncXTaskError',
    message: expect.stringContaining('no root of -1'),
    details: [{ exception: 'ValueError', traceback: expect.stringContaining('raise ValueError') }],
  });
});

test('input that is not well formed is refused through Nexus with a sentence', async () => {
  expect(await (await inTypeScript('throughNexus', ['call', { function: 7 }])).result()).toMatchObject({
    type: 'FuncXRefused',
    message: expect.stringContaining('not well formed'),
  });
});

test('a cancelled pipeline in TypeScript cancels its call through Nexus, and the function is stopped', async () => {
  const started = newFile();
  await cancelHeldUp({ pipeline: await inTypeScript('heldUpThroughNexus', [shared.name, started, '/nowhere']), started });
});
