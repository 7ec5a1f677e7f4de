import { randomUUID } from 'node:crypto';

import type { Client, WorkflowHandle } from '@temporalio/client';

import { buildExamples, testWorker } from '../helpers/pipelines';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Agent, openStore, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/** References beyond our own agents: between Globus Compute's released endpoint and itself or ours; and when they are too old. */

const worker = testWorker();
const ours = new Agent(`ours-${randomUUID()}`);
const name = `stock${process.pid}`;
let stock: StockEndpoint;
let temporal: { client: Client; close(): Promise<void> };

/** Two compilations, perhaps an installation, on a machine that may be busy. */
const BUILD_MS = 600_000;

beforeAll(async () => {
  buildExamples();
  temporal = await openTemporal();
  stock = await new StockEndpoint(new StockClient(await globusVenv()), name).configure();
  await Promise.all([stock.start(), ours.start()]);
  worker.start();
}, BUILD_MS);

afterAll(async () => {
  await worker.stop();
  await Promise.all([stock?.stop(), ours.stop()]);
  await temporal.close();
});

const start = (type: string, args: unknown[]): Promise<WorkflowHandle> =>
  temporal.client.workflow.start(type, { taskQueue: 'test-pipelines', workflowId: `${type}-${randomUUID()}`, args });
const run = async (type: string, args: unknown[]): Promise<unknown> => (await start(type, args)).result();

test('any picklable value flows from one step to the next on the stock endpoint, exactly', async () => {
  expect(await run('oddBetween', [stock.id, stock.id])).toBe("[{'point': (1, 2), 'of': {3}, 'z': 1j}, 5]");
});

test('a value of the stock endpoint is an argument of a call on ours, and the other way round', async () => {
  const odd = "[{'point': (1, 2), 'of': {3}, 'z': 1j}, 5]";
  expect(await Promise.all([run('oddBetween', [stock.id, ours.name]), run('oddBetween', [ours.name, stock.id])])).toEqual([
    odd,
    odd,
  ]);
});

test('a value of 7 million bytes, within the 10 MB of the stock endpoint, reaches its next step as it was', async () => {
  const [here, there] = await Promise.all(
    [stock.id, ours.name].map((endpoint) => run('bytesBetween', [endpoint, endpoint, 7_000_000]) as Promise<[object, string]>),
  );
  expect(here).toEqual([
    { $funcx: 'ref', taskId: expect.any(String), size: expect.any(Number), hash: expect.any(String) },
    there?.[1],
  ]);
});

test('a value over the 10 MB of the stock endpoint is a typed failure', async () => {
  await expect(run('bytesBetween', [stock.id, stock.id, 11_000_000])).rejects.toMatchObject({
    cause: { type: 'FuncXTaskError', details: [{ code: 'MaxResultSizeExceeded' }] },
  });
});

test('a call whose reference was removed while it waited for its endpoint fails and says so', async () => {
  const away = new Agent(`away-${randomUUID()}`);
  await away.start();
  await away.stop();
  await away.untilOffline();
  const pipeline = await start('oddBetween', [ours.name, away.name]);
  const call = temporal.client.workflow.getHandle(`${pipeline.workflowId}/describe-2`);
  await until('the call waits', async () =>
    JSON.stringify(await call.query('__temporal_workflow_metadata')).includes('): waiting'),
  );
  const store = openStore();
  // What retention does when a day is over.
  const { rows } = await store.query<{ source: string }>(
    `with referred as (select source from payload_references pr join tasks t on t.id = pr.id
                        join endpoint_queues q on q.id = t.endpoint_queue_id where q.endpoint_id = $1)
     delete from results r using referred where r.id = referred.source returning r.id as source`,
    [away.id],
  );
  await store.end();
  try {
    await away.start();
    await expect(pipeline.result()).rejects.toMatchObject({
      cause: {
        type: 'FuncXTaskError',
        message: expect.stringContaining(`refer to the result of task ${rows[0]?.source}, which was removed`),
        details: [{ code: 'ReferenceExpired' }],
      },
    });
  } finally {
    await away.stop();
  }
});
