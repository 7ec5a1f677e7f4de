import { submissionIdOf } from '../../contracts/ids';
import { Agent, Http, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Deadlines of submissions and walltimes of attempts. */

const http = new Http();
const agent = new Agent('deadline', { FUNCX_WORKERS: '1' });
let nap: string;

beforeAll(async () => {
  await agent.start();
  nap = await http.register('nap', 'def nap(s):\n    import time\n    time.sleep(s)\n    return s');
});
afterAll(() => agent.stop());

const policy = (funcx: object) => ({ resource_specification: { funcx } });

test('a submission ends at its deadline, whether its tasks run or wait, and the worker is free again', async () => {
  const { taskIds } = await http.submit(agent.id, nap, [[600], [600]], policy({ deadline_s: 3 }));
  for (const id of taskIds) {
    const answer = await http.answer(id);
    expect(answer).toMatchObject({ state: 'expired', status: 'failed', error_code: 'Expired' });
    expect(answer.exception).toContain('deadline');
  }
  const submission = await http.ok('GET', `/v1/submissions/${submissionIdOf(taskIds[0] ?? '')}`);
  expect(submission).toMatchObject({ open: 0, counts: { expired: 2 } });
  await until('the submission shows as expired', async () => {
    return (await http.ok('GET', `/v1/submissions/${submissionIdOf(taskIds[0] ?? '')}`)).state === 'expired';
  });
  const next = await http.submit(agent.id, nap, [[0]]);
  expect(await http.value(next.taskIds[0] ?? '')).toBe(0);
});

test('a call that runs longer than its walltime is stopped by the agent, and the walltime is a timer in the Temporal UI', async () => {
  const taskId = await http.submitOne(agent.id, nap, [600], policy({ walltime_s: 2 }));
  expect(await http.answer(taskId)).toMatchObject({ state: 'failed', error_code: 'WalltimeExceeded' });
  const { client, close } = await openTemporal();
  const handle = client.workflow.getHandle(await workflowIdOf(taskId));
  const { events } = await handle.fetchHistory();
  const summaries = (events ?? []).map((event) => Buffer.from(event.userMetadata?.summary?.data ?? []).toString());
  expect(summaries).toContainEqual(expect.stringMatching(/^"end of the walltime of 2 s, .+ UTC"$/));
  await close();
  expect(await http.value(await http.submitOne(agent.id, nap, [0]))).toBe(0);
});

test('an attempt that waits at its agent for longer than its walltime is not ended by it', async () => {
  const { taskIds } = await http.submit(agent.id, nap, [[3], [0.1]], policy({ walltime_s: 5 }));
  expect(await http.value(taskIds[0] ?? '')).toBe(3);
  expect(await http.value(taskIds[1] ?? '')).toBe(0.1);
});
