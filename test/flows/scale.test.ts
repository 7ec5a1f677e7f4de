import { readFileSync } from 'node:fs';

import { flowWorkflowId } from '../../contracts/flows';
import { printFigure } from '../helpers/figures';
import { action, COMPUTE, endOfRun, flowsCall, makeFlow, startRun } from '../helpers/flows';
import { historiesOf, type Event } from '../helpers/runs';
import { Http, localEndpoint, openTemporal, pidOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Long loops, wide fan-outs, many runs and large values: histories and memory stay bounded, and values are right. */

const MAX_EVENTS = 500;
const MB = 1_048_576;
const http = new Http();
let temporal: Awaited<ReturnType<typeof openTemporal>>;

beforeAll(async () => {
  temporal = await openTemporal();
});
afterAll(() => temporal.close());
/** A test that gave up leaves nothing behind that would slow the next one. */
afterEach(async () => {
  const { body } = await flowsCall('GET', '/runs?filter_status=ACTIVE&per_page=100');
  for (const { run_id: id } of body.runs) await flowsCall('POST', `/runs/${id}/cancel`);
});

/** Resident memory of `workers` while something goes on, in MB. */
class Memory {
  readonly #samples: number[] = [];
  readonly #startedMs = Date.now();
  readonly #timer = setInterval(() => this.#sample(), 500);

  #sample(): void {
    const [, kB = '0'] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pidOf('workers')}/status`, 'utf8')) ?? [];
    this.#samples.push(Number(kB) / 1_024);
  }

  /** The highest of each half of the time. */
  stop(what: string): { early: number; late: number } {
    clearInterval(this.#timer);
    this.#sample();
    const half = Math.ceil(this.#samples.length / 2);
    const early = Math.max(...this.#samples.slice(0, half));
    const late = Math.max(...this.#samples.slice(half), 0);
    const seconds = ((Date.now() - this.#startedMs) / 1_000).toFixed(0);
    printFigure(`${what}: ${seconds} s, memory of workers at most ${early.toFixed(0)} MB, then ${late.toFixed(0)} MB`);
    return { early, late };
  }
}

/** Checks every execution of every workflow; returns the length of the longest history and how many executions there were. */
async function longestHistory(workflowIds: readonly string[]): Promise<{ longest: number; executions: number; all: Event[][] }> {
  const all: Event[][] = [];
  for (const id of workflowIds) all.push(...(await historiesOf(temporal.client, id)));
  const longest = Math.max(...all.map(({ length }) => length));
  expect(longest).toBeLessThanOrEqual(MAX_EVENTS);
  return { longest, executions: all.length, all };
}

test('a loop of 10,000 iterations has short histories, flat memory and the right value', async () => {
  const flowId = await makeFlow('long loop', {
    StartAt: 'Count',
    States: {
      Count: { Type: 'ExpressionEval', Parameters: { 'n.=': 'n + 1', 'sum.=': 'sum + n' }, ResultPath: '$', Next: 'More' },
      More: { Type: 'Choice', Choices: [{ Variable: '$.n', NumericLessThan: 10_000, Next: 'Count' }], Default: 'Done' },
      Done: { Type: 'Pass', End: true },
    },
  });
  const memory = new Memory();
  const runId = await startRun(flowId, { n: 0, sum: 0 });
  const run = await endOfRun(runId, 300_000, 500);
  const { early, late } = memory.stop('a loop of 10,000 iterations');
  expect(run).toMatchObject({ status: 'SUCCEEDED', details: { output: { n: 10_000, sum: 49_995_000 } } });
  const { longest, executions } = await longestHistory([flowWorkflowId(runId)]);
  printFigure(`a loop of 10,000 iterations: ${executions} executions, the longest with ${longest} events`);
  expect(late).toBeLessThan(early * 1.25 + 30);
}, 360_000);

test('a loop with a Wait in each of its 1,000 iterations continues as new in time', async () => {
  const flowId = await makeFlow('waiting loop', {
    StartAt: 'Count',
    States: {
      Count: { Type: 'ExpressionEval', Parameters: { 'n.=': 'n + 1' }, ResultPath: '$', Next: 'Rest' },
      Rest: { Type: 'Wait', Seconds: 0, Next: 'More' },
      More: { Type: 'Choice', Choices: [{ Variable: '$.n', NumericLessThan: 1_000, Next: 'Count' }], Default: 'Done' },
      Done: { Type: 'Pass', End: true },
    },
  });
  const runId = await startRun(flowId, { n: 0 });
  // It never waits for anything, so the service slows it down.
  await until('it has continued as new', async () => (await historiesOf(temporal.client, flowWorkflowId(runId))).length > 2, {
    deadlineMs: 120_000,
    everyMs: 1_000,
  });
  await longestHistory([flowWorkflowId(runId)]);
  await flowsCall('POST', `/runs/${runId}/cancel`);
  expect(await endOfRun(runId)).toMatchObject({ details: { code: 'FlowCanceled' } });
}, 240_000);

test('a Map over 2,000 items, some of which call a function, has short histories and every value in its place', async () => {
  const square = await http.register('square', 'def square(n):\n    return n * n\n');
  const flowId = await makeFlow('wide Map', {
    StartAt: 'Fan',
    States: {
      Fan: {
        Type: 'Map',
        ItemsPath: '$.items',
        ItemSelector: { 'n.$': '$$.Map.Item.Value', 'index.$': '$._context.Map.Item.Index' },
        ItemProcessor: {
          StartAt: 'Which',
          States: {
            Which: { Type: 'Choice', Choices: [{ Variable: '$.n', NumericLessThan: 50, Next: 'Call' }], Default: 'Here' },
            Call: {
              Type: 'Action',
              ActionUrl: COMPUTE,
              Parameters: { endpoint_id: localEndpoint(), tasks: [{ function_id: square, kwargs: { 'n.$': '$.n' } }] },
              ResultPath: '$.call',
              WaitTime: 600,
              Next: 'Take',
            },
            Take: { Type: 'Pass', InputPath: '$.call.details.result[0]', End: true },
            Here: { Type: 'ExpressionEval', Parameters: { 'value.=': 'n * n' }, ResultPath: '$', Next: 'Pick' },
            Pick: { Type: 'Pass', InputPath: '$.value', End: true },
          },
        },
        ResultPath: '$.squares',
        End: true,
      },
    },
  });
  const items = Array.from({ length: 2_000 }, (_, n) => n);
  const memory = new Memory();
  const runId = await startRun(flowId, { items });
  const run = await endOfRun(runId, 900_000, 1_000);
  const { early, late } = memory.stop('a Map over 2,000 items');
  expect(run).toMatchObject({ status: 'SUCCEEDED' });
  expect(run.details.output.squares).toEqual(items.map((n) => n * n));
  const prefix = flowWorkflowId(runId);
  const query = `WorkflowType = 'flowMap' AND WorkflowId STARTS_WITH '${prefix}/'`;
  const maps = new Set<string>();
  for await (const { workflowId } of temporal.client.workflow.list({ query })) maps.add(workflowId);
  expect(maps.size).toBe(1);
  const { longest, executions } = await longestHistory([prefix, ...maps, `${[...maps][0]}0`]);
  printFigure(`a Map over 2,000 items: ${executions - 2} executions of the Map, the longest history has ${longest} events`);
  expect(late).toBeLessThan(early * 1.25 + 50);
}, 960_000);

test('200 runs at the same time all end with their values', async () => {
  const twice = await http.register('twice', 'def twice(n):\n    return 2 * n\n');
  const flowId = await makeFlow('many runs', {
    StartAt: 'Rest',
    States: {
      Rest: { Type: 'Wait', Seconds: 2, Next: 'Call' },
      Call: {
        Type: 'Action',
        ActionUrl: COMPUTE,
        Parameters: { endpoint_id: localEndpoint(), tasks: [{ function_id: twice, kwargs: { 'n.$': '$.n' } }] },
        ResultPath: '$.call',
        WaitTime: 600,
        Next: 'Add',
      },
      Add: { Type: 'ExpressionEval', Parameters: { 'n.=': 'call.details.result[0] + 1' }, ResultPath: '$', End: true },
    },
  });
  const numbers = Array.from({ length: 200 }, (_, n) => n);
  const memory = new Memory();
  const runIds = await Promise.all(numbers.map((n) => startRun(flowId, { n })));
  await until(
    'no run is open',
    async () =>
      (await flowsCall('GET', `/runs?filter_flow_id=${flowId}&filter_status=ACTIVE`)).body.runs.length === 0 || undefined,
    { deadlineMs: 300_000, everyMs: 1_000 },
  );
  const { early, late } = memory.stop('200 runs at the same time');
  const runs = await Promise.all(runIds.map((id) => endOfRun(id)));
  const ends = runs.map(({ status, details }): unknown[] => [status, details.output?.n]);
  expect(ends).toEqual(numbers.map((n) => ['SUCCEEDED', 2 * n + 1]));
  const { longest } = await longestHistory(runIds.map(flowWorkflowId));
  printFigure(`200 runs at the same time: the longest history has ${longest} events`);
  expect(late).toBeLessThan(early * 1.5 + 50);
}, 400_000);

test('an array of 50 MB goes from one step to the next with no byte of it in the history', async () => {
  const count = 6_250_000; // of eight characters each
  const make = await http.register('make_large', 'def make_large(count):\n    return [7654321] * count\n');
  const look = await http.register('look', 'def look(values):\n    return [len(values), sum(values), values[-1]]\n');
  const call = (name: string, fn: string, kwargs: object, more: object): object => ({
    ...action(localEndpoint(), fn, {}, { ResultPath: `$.${name}`, WaitTime: 300, ...more }),
    Parameters: { endpoint_id: localEndpoint(), tasks: [{ function_id: fn, kwargs }] },
  });
  const flowId = await makeFlow('50 MB', {
    StartAt: 'Make',
    States: {
      Make: call('Make', make, { count }, { Next: 'Look' }),
      Look: call('Look', look, { 'values.$': '$.Make.details.result[0]' }, { End: true }),
    },
  });
  const memory = new Memory();
  const runId = await startRun(flowId, {});
  const run = await endOfRun(runId, 300_000, 500);
  memory.stop('an array of 50 MB');
  expect(run).toMatchObject({ status: 'SUCCEEDED' });
  expect(run.details.output.Make.details.result[0]).toMatchObject({ $funcx: 'ref' });
  expect(run.details.output.Make.details.result[0].size).toBeGreaterThanOrEqual(50_000_000);
  expect(run.details.output.Look.details.result).toEqual([[count, count * 7_654_321, 7_654_321]]);
  const { all } = await longestHistory([flowWorkflowId(runId)]);
  const children = all.flat().flatMap((event) => {
    const id = event.childWorkflowExecutionStartedEventAttributes?.workflowExecution?.workflowId;
    return id ? [id] : [];
  });
  expect(children).toHaveLength(2);
  const histories = [...all, ...(await longestHistory(children)).all];
  const text = JSON.stringify(histories, (_key, value: unknown) =>
    value instanceof Uint8Array || Buffer.isBuffer(value) ? Buffer.from(value).toString('utf8') : value,
  );
  printFigure(`an array of 50 MB: the histories of the run and its submissions have ${text.length} characters`);
  expect(text).not.toContain('7654321');
  expect(text.length).toBeLessThan(0.2 * MB);
}, 360_000);
