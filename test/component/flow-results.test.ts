import { randomUUID } from 'node:crypto';

import { readActionResult } from '../../activities/flow-results';
import { encodeFrame } from '../../contracts/frames';
import { storeAnswers, type Answer } from '../../platform/store/answers';
import { insertLines, readLine, saveLine } from '../../platform/store/flow-lines';
import { makeFlow, makeRun } from '../helpers/flow-fixture';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** What a Compute action returns into the state of its flow. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
  fixture = await makeFixture(postgres.db);
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

/** A line of a run that waits for an action with this many tasks. */
async function waitingLine(tasks: number): Promise<{ runId: string; line: string }> {
  const line = '';
  const { ownerId } = fixture;
  const runId = await makeRun(postgres.db, await makeFlow(postgres.db, ownerId), ownerId);
  await insertLines(postgres.db, runId, [{ line, scope: [], context: {}, state: 'A', data: '{}', generation: 1 }]);
  const row = (await readLine(postgres.db, runId, line))!; // inserted above
  const call = { endpoint: fixture.endpointId, function: fixture.functionId, args: [] };
  const pending = {
    kind: 'action',
    startedMs: 0,
    provider: 'compute-v2',
    body: { tasks: Array.from({ length: tasks }, () => call) },
  };
  await saveLine(postgres.db, runId, { ...row, pending });
  return { runId, line };
}

async function resultOf(
  submissions: readonly { submissionId: string; taskIds: string[] }[],
  isTimedOut = false,
): Promise<{ task_id: string; output: unknown; exception?: string }[]> {
  const line = await waitingLine(submissions.flatMap(({ taskIds }) => taskIds).length);
  const groups = [{ submissionIds: submissions.map(({ submissionId }) => submissionId) }];
  const outcome = await readActionResult(postgres.db, line, { kind: 'acted', groups, taskGroupId: randomUUID(), isTimedOut });
  const status = outcome!.status({ stateName: 'A', creator: 'c', startedMs: 0, nowMs: 1, isTimedOut }); // the line waits
  return (status.details as { results: { task_id: string; output: unknown; exception?: string }[] }).results;
}

const value = (taskId: string, json: unknown): Answer => ({
  taskId,
  state: 'succeeded',
  frame: encodeFrame({ message_type: 'result', data: { task_id: taskId, data: `11\n${JSON.stringify(json)}` } }),
});
const failure = (taskId: string, text: string): Answer => ({
  taskId,
  state: 'failed',
  frame: encodeFrame({
    message_type: 'result',
    data: { task_id: taskId, data: text, error_details: { code: 'RemoteExecutionError', user_message: 'm' } },
  }),
});

test('each task of an action has its own ID and value, also when the action timed out and a task is still open', async () => {
  const submissions = [
    await submit(postgres.db, fixture, 5),
    await submit(postgres.db, fixture, 5),
    await submit(postgres.db, fixture, 1),
  ];
  const ids = submissions.flatMap(({ taskIds }) => taskIds);
  await storeAnswers(
    postgres.db,
    ids.flatMap((id, index) => (index === 1 ? [] : [value(id, index)])),
  );
  const results = await resultOf(submissions, true);
  expect(results).toEqual(ids.map((id, index) => ({ task_id: id, output: index === 1 ? null : index })));
});

test('a failed task has a text, however many tasks of the action failed before it', async () => {
  const submission = await submit(postgres.db, fixture, 120);
  const text = (index: number): string => `Traceback (most recent call last):\n  ...\nValueError: ${index}`;
  await storeAnswers(
    postgres.db,
    submission.taskIds.map((id, index) => failure(id, text(index))),
  );
  const results = await resultOf([submission]);
  expect(results[0]).toMatchObject({ output: text(0), exception: text(0) });
  expect(results[119]).toEqual({ task_id: submission.taskIds[119], output: 'ValueError: 119', exception: 'ValueError: 119' });
});
