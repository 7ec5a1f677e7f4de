import { createFlowLineActivities } from '../../activities/flow-lines';
import type { ActivityDeps } from '../../activities/deps';
import { encodeFrame } from '../../contracts/frames';
import type { FlowStep } from '../../contracts/flow-steps';
import { storeAnswers } from '../../platform/store/answers';
import { readLine } from '../../platform/store/flow-lines';
import { makeFlow, makeRun } from '../helpers/flow-fixture';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** Flows that read results which are much larger together than one step may read. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
  fixture = await makeFixture(postgres.db);
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const RESULTS = 14;
const RESULT_BYTES = 10 * 1024 * 1024;

async function storeResults(count: number): Promise<{ $funcx: 'ref'; taskId: string; size: number; hash: string }[]> {
  const { taskIds } = await submit(postgres.db, fixture, count);
  for (const [index, taskId] of taskIds.entries()) {
    const data = `11\n${JSON.stringify([index, 'x'.repeat(RESULT_BYTES)])}`;
    const frame = encodeFrame({ message_type: 'result', data: { task_id: taskId, data } });
    await storeAnswers(postgres.db, [{ taskId, state: 'succeeded', frame }]);
  }
  return taskIds.map((taskId) => ({ $funcx: 'ref', taskId, size: RESULT_BYTES, hash: 'x' }));
}

async function run(
  states: Record<string, unknown>,
  StartAt: string,
  input: object,
): Promise<{ step: FlowStep; steps: number; data: unknown }> {
  const { ownerId } = fixture;
  const flow = await makeFlow(postgres.db, ownerId, { definition: { StartAt, States: states } });
  const runId = await makeRun(postgres.db, flow, ownerId, { input });
  const deps = { db: postgres.db, config: { FUNCX_FLOWS_HTTP_ALLOW: [] } } as unknown as ActivityDeps;
  const { openLine, advance } = createFlowLineActivities(deps);
  let step = await openLine({ runId, line: '', generation: 1 });
  let steps = 0;
  for (; (step.kind === 'more' || step.kind === 'wait') && steps < 100; steps++) {
    const event = step.kind === 'wait' ? ({ kind: 'waited' } as const) : ({ kind: 'go' } as const);
    step = await advance({ runId, line: '', position: step.position, event });
  }
  return { step, steps, data: JSON.parse((await readLine(postgres.db, runId, ''))!.data) };
}

test('a state that is retried is entered again, although it reads a large result', async () => {
  const [ref] = await storeResults(1);
  const map = {
    Type: 'Map',
    ItemsPath: '$.ref',
    ItemProcessor: { StartAt: 'P', States: { P: { Type: 'Pass', End: true } } },
    Retry: [{ ErrorEquals: ['States.ALL'], MaxAttempts: 1, IntervalSeconds: 1 }],
    End: true,
  };
  const { step, steps } = await run({ Map: map }, 'Map', { ref });
  expect(step).toMatchObject({ kind: 'failed' });
  expect(steps).toBeLessThan(10);
});

test('a loop reads one large result after another; one state that reads them all fails', async () => {
  const refs = await storeResults(RESULTS);
  const read = { 'i.=': 'i + 1', 'sum.=': 'sum + refs[i][0]', 'refs.$': '$.refs' };
  const loop = await run(
    {
      Read: { Type: 'ExpressionEval', Parameters: read, ResultPath: '$', Next: 'More' },
      More: { Type: 'Choice', Choices: [{ Variable: '$.i', NumericLessThan: RESULTS, Next: 'Read' }], Default: 'Done' },
      Done: { Type: 'Pass', End: true },
    },
    'Read',
    { i: 0, sum: 0, refs },
  );
  expect(loop.step).toMatchObject({ kind: 'succeeded' });
  expect(loop.data).toMatchObject({ i: RESULTS, sum: (RESULTS * (RESULTS - 1)) / 2 });

  const all = {
    Read: { Type: 'ExpressionEval', Parameters: { 'firsts.=': '[r[0] for r in refs]' }, ResultPath: '$', End: true },
  };
  expect((await run(all, 'Read', { refs })).step).toMatchObject({ kind: 'failed', error: 'States.DataLimitExceeded' });
}, 120_000);
