import { action, cancelRun, COMPUTE, endOfRun, logOf, makeFlow, resumeRun, runFlow, startRun } from '../helpers/flows';
import { Http, localEndpoint, openTemporal } from '../helpers/system';
import { flowWorkflowId } from '../../contracts/flows';

/** Runs of flows on real parts: what each kind of state does, and what the history of a run never holds. */

const http = new Http();
let add: string;
let boom: string;
let big: string;
let size: string;

beforeAll(async () => {
  add = await http.register('add', 'def add(a, b):\n    return a + b\n');
  boom = await http.register(
    'boom',
    'def boom(path):\n    import os\n    if os.path.exists(path):\n        return "well"\n    raise ValueError("no " + path)\n',
  );
  big = await http.register('big', 'def big(n):\n    return list(range(n))\n');
  size = await http.register('size', 'def size(values):\n    return [len(values), values[-1]]\n');
});

async function historyOf(runId: string): Promise<{ events: number; text: string }> {
  const { client, close } = await openTemporal();
  const history = await client.workflow.getHandle(flowWorkflowId(runId)).fetchHistory();
  await close();
  const text = JSON.stringify(history, (_key, value: unknown) =>
    value instanceof Uint8Array || Buffer.isBuffer(value) ? Buffer.from(value).toString('utf8') : value,
  );
  return { events: history.events?.length ?? 0, text };
}

test('a run goes through each kind of state, and its values never enter the history', async () => {
  const flowId = await makeFlow('each state', {
    StartAt: 'Begin',
    States: {
      Begin: {
        Type: 'Pass',
        Parameters: { 'n.$': '$.input.n', secret: 'only-in-the-store' },
        ResultPath: '$.got',
        Next: 'Count',
      },
      Count: {
        Type: 'ExpressionEval',
        Parameters: { 'n.=': 'got.n + 1', 'secret.$': '$.got.secret' },
        ResultPath: '$.got',
        Next: 'More',
      },
      More: { Type: 'Choice', Choices: [{ Variable: '$.got.n', NumericLessThan: 5, Next: 'Count' }], Default: 'Rest' },
      Rest: { Type: 'Wait', Seconds: 1, Next: 'Add' },
      Add: {
        ...action(localEndpoint(), add, {}, { ResultPath: '$.Add', End: true }),
        Parameters: { endpoint_id: localEndpoint(), tasks: [{ function_id: add, kwargs: { 'a.$': '$.got.n', b: 37 } }] },
      },
    },
  });
  const runId = await startRun(flowId, { input: { n: 1 } });
  const run = await endOfRun(runId);
  expect(run).toMatchObject({ status: 'SUCCEEDED', details: { code: 'FlowSucceeded', output: { got: { n: 5 } } } });
  expect(run.details.output.Add).toMatchObject({ status: 'SUCCEEDED', state_name: 'Add', details: { result: [42] } });
  expect(run.details.output.Add.details.results).toEqual([{ task_id: expect.any(String), output: 42 }]);
  const codes = (await logOf(runId)).map(({ code }) => code as string);
  expect(codes.slice(0, 5)).toEqual([
    'FlowStarted',
    'PassStarted',
    'PassCompleted',
    'ExpressionEvalStarted',
    'ExpressionEvalCompleted',
  ]);
  expect(codes.slice(-3)).toEqual(['ActionStarted', 'ActionCompleted', 'FlowSucceeded']);
  expect((await historyOf(runId)).text).not.toContain('only-in-the-store');
});

test('a failed action is caught, or ends the run, which goes on from there when it is resumed', async () => {
  const path = `/tmp/funcx-flow-${process.pid}-${Date.now()}`;
  const flowId = await makeFlow('failures', {
    StartAt: 'Caught',
    States: {
      Caught: action(
        localEndpoint(),
        boom,
        { path: `${path}.never` },
        {
          ResultPath: '$.Caught',
          Catch: [{ ErrorEquals: ['ActionFailedException'], ResultPath: '$.error', Next: 'Fails' }],
          End: true,
        },
      ),
      Fails: action(localEndpoint(), boom, { path }, { ResultPath: '$.Fails', End: true }),
    },
  });
  const runId = await startRun(flowId, {});
  const failed = await endOfRun(runId);
  expect(failed).toMatchObject({
    status: 'FAILED',
    details: { code: 'FlowFailed', state_name: 'Fails', error: 'ActionFailedException' },
  });
  expect(JSON.stringify(failed.details)).toContain(`no ${path}`);
  const touch = await http.register('touch', 'def touch(path):\n    open(path, "w").close()\n');
  const taskId = await http.submitOne(localEndpoint(), touch, [path]);
  await http.value(taskId);
  await resumeRun(flowId, runId);
  const run = await endOfRun(runId);
  expect(run.details.output).toMatchObject({
    error: { Error: 'ActionFailedException' },
    Fails: { details: { result: ['well'] } },
  });
});

test('a Map and a Parallel run their lines, and a Retry tries again', async () => {
  const run = await runFlow(
    'fan out',
    {
      StartAt: 'Fan',
      States: {
        Fan: {
          Type: 'Map',
          ItemsPath: '$.items',
          ItemSelector: { 'value.$': '$$.Map.Item.Value', 'index.$': '$._context.Map.Item.Index' },
          MaxConcurrency: 2,
          ItemProcessor: {
            StartAt: 'Add',
            States: {
              Add: {
                Type: 'Action',
                ActionUrl: COMPUTE,
                Parameters: {
                  endpoint_id: localEndpoint(),
                  tasks: [{ function_id: add, kwargs: { 'a.$': '$.value', 'b.$': '$.index' } }],
                },
                ResultPath: '$.sum',
                Next: 'Pick',
              },
              Pick: { Type: 'Pass', InputPath: '$.sum.details.result[0]', End: true },
            },
          },
          ResultPath: '$.sums',
          Next: 'Both',
        },
        Both: {
          Type: 'Parallel',
          Branches: [
            {
              StartAt: 'Left',
              States: { Left: { Type: 'ExpressionEval', Parameters: { 'total.=': 'sum(sums)' }, ResultPath: '$', End: true } },
            },
            { StartAt: 'Right', States: { Right: { Type: 'Wait', Seconds: 1, End: true } } },
          ],
          ResultPath: '$.both',
          Next: 'Again',
        },
        Again: action(
          localEndpoint(),
          boom,
          { path: '/nowhere' },
          {
            ResultPath: '$.again',
            Retry: [{ ErrorEquals: ['States.ALL'], IntervalSeconds: 1, MaxAttempts: 1 }],
            Catch: [{ ErrorEquals: ['States.ALL'], ResultPath: '$.gaveUp', Next: 'Done' }],
            End: true,
          },
        ),
        Done: { Type: 'Pass', End: true },
      },
    },
    { items: [10, 20, 30] },
  );
  expect(run).toMatchObject({ status: 'SUCCEEDED' });
  expect(run.details.output).toMatchObject({ sums: [10, 21, 32], both: [{ total: 63 }, { items: [10, 20, 30] }] });
  const failures = (await logOf(run.run_id as string)).filter(({ code }) => code === 'ActionFailed');
  expect(failures).toHaveLength(2);
});

test('a large value goes from step to step by reference, and an expression looks into it', async () => {
  const flowId = await makeFlow('large values', {
    StartAt: 'Big',
    States: {
      Big: action(localEndpoint(), big, { n: 300_000 }, { ResultPath: '$.Big', Next: 'Look' }),
      Look: {
        Type: 'ExpressionEval',
        Parameters: { 'count.=': 'len(Big.details.result[0])' },
        ResultPath: '$.look',
        Next: 'Size',
      },
      Size: {
        ...action(localEndpoint(), size, {}, { ResultPath: '$.Size', End: true }),
        Parameters: {
          endpoint_id: localEndpoint(),
          tasks: [{ function_id: size, kwargs: { 'values.$': '$.Big.details.result[0]' } }],
        },
      },
    },
  });
  const runId = await startRun(flowId, {});
  const run = await endOfRun(runId);
  expect(run).toMatchObject({ status: 'SUCCEEDED', details: { output: { look: { count: 300_000 } } } });
  expect(run.details.output.Size.details.result).toEqual([[300_000, 299_999]]);
  expect(run.details.output.Big.details.result[0]).toMatchObject({ $funcx: 'ref', size: expect.any(Number) });
  const { text, events } = await historyOf(runId);
  expect(text.length).toBeLessThan(100_000);
  expect(events).toBeLessThan(100);
});

test('a cancelled run ends as failed, and its submissions with it', async () => {
  const flowId = await makeFlow('cancelled', { StartAt: 'Rest', States: { Rest: { Type: 'Wait', Seconds: 3_600, End: true } } });
  const runId = await startRun(flowId, {});
  await cancelRun(runId);
  expect(await endOfRun(runId)).toMatchObject({ status: 'FAILED', details: { code: 'FlowCanceled' } });
});
