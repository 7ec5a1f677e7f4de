import { randomUUID } from 'node:crypto';

import { submissionIdOf } from '../../contracts/ids';
import { Http, localEndpoint, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Requests that arrive at the same time share a workflow; to their submitter each is a submission of its own. */

const http = new Http();
const REQUESTS = 40;
let double: string;
let linger: string;

beforeAll(async () => {
  double = await http.register('double', 'def double(x):\n    return 2 * x');
  linger = await http.register('linger', 'def linger(path):\n    import time\n    time.sleep(600)');
});

interface Submitted {
  taskId: string;
  submissionId: string;
}

/** As many requests as arguments, at the same time, each with a key of its own. */
async function submitTogether(functionId: string, args: readonly unknown[], groupId: string): Promise<Submitted[]> {
  return Promise.all(
    args.map(async (arg) => {
      const extra = { task_group_id: groupId };
      const headers = { 'idempotency-key': randomUUID() };
      const { taskIds } = await http.submit(localEndpoint(), functionId, [[arg]], extra, headers);
      const [taskId = ''] = taskIds;
      return { taskId, submissionId: submissionIdOf(taskId) };
    }),
  );
}

const workflowsOf = async (submitted: readonly Submitted[]): Promise<string[]> =>
  Promise.all(submitted.map(({ submissionId }) => workflowIdOf(submissionId)));

test('single calls of many clients share a few workflows, and each call has its own value and submission', async () => {
  const numbers = Array.from({ length: REQUESTS }, (_, n) => n);
  const submitted = await submitTogether(double, numbers, randomUUID());
  expect(new Set(submitted.map(({ submissionId }) => submissionId)).size).toBe(REQUESTS);
  const values = await Promise.all(submitted.map(({ taskId }) => http.value(taskId)));
  expect(values).toEqual(numbers.map((n) => 2 * n));
  const workflows = new Set(await workflowsOf(submitted));
  expect(workflows.size).toBeLessThan(REQUESTS / 2);

  const temporal = await openTemporal();
  try {
    for (const workflowId of workflows) await temporal.client.workflow.getHandle(workflowId).result();
  } finally {
    await temporal.close();
  }
  for (const { submissionId } of submitted) {
    expect(await http.ok('GET', `/v1/submissions/${submissionId}`)).toMatchObject({ state: 'done', total: 1, open: 0 });
  }
});

test('a request that is repeated with its key is answered as before, also among others', async () => {
  const key = randomUUID();
  const send = async (headers: Record<string, string>): Promise<string> => {
    const taskId = await http.submitOne(localEndpoint(), double, [21], { task_group_id: groupId }, headers);
    return taskId;
  };
  const groupId = randomUUID();
  const [first, again, ...others] = await Promise.all([
    send({ 'idempotency-key': key }),
    send({ 'idempotency-key': key }),
    ...Array.from({ length: 6 }, () => send({})),
  ]);
  expect(again).toBe(first);
  expect(new Set(others).size).toBe(others.length);
  expect(await send({ 'idempotency-key': key })).toBe(first);
});

test('cancelling one submission leaves those that share its workflow; cancelling the group ends them', async () => {
  const groupId = randomUUID();
  const submitted = await submitTogether(
    linger,
    Array.from({ length: 12 }, (_, n) => n),
    groupId,
  );
  const workflows = await workflowsOf(submitted);
  const [one] = submitted.filter((_, index) => workflows.filter((id) => id === workflows[index]).length > 1);
  if (!one) throw new Error('no submissions share a workflow');

  expect(await http.ok('POST', `/v1/submissions/${one.submissionId}/cancel`)).toEqual({ cancelled: 1 });
  expect(await http.answer(one.taskId)).toMatchObject({ state: 'cancelled', error_code: 'Cancelled' });
  expect(await http.ok('GET', `/v1/submissions/${one.submissionId}`)).toMatchObject({ state: 'cancelled', open: 0 });
  const others = submitted.filter(({ taskId }) => taskId !== one.taskId);
  for (const { submissionId } of others) {
    expect(await http.ok('GET', `/v1/submissions/${submissionId}`)).toMatchObject({ open: 1, cancelled: 0 });
  }

  expect(await http.ok('POST', `/v1/taskgroups/${groupId}/cancel`)).toEqual({ cancelled: others.length });
  for (const { taskId } of others) expect(await http.answer(taskId)).toMatchObject({ state: 'cancelled' });
  await until('every submission has ended', async () => {
    const { submissions } = await http.ok('GET', `/v1/submissions?group=${groupId}&state=cancelled`);
    return (submissions as unknown[]).length === submitted.length ? true : undefined;
  });
});
