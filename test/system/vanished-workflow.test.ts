import type { Client } from '@temporalio/client';

import { submissionIdOf } from '../../contracts/ids';
import { Http, localEndpoint, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Temporal may lose workflows: somebody deletes them, or an older backup is restored. The store still knows the submissions. */

const TIMEOUT_MS = 120_000;

const http = new Http();
let temporal: { client: Client; close(): Promise<void> };
let nap: string;

beforeAll(async () => {
  temporal = await openTemporal();
  nap = await http.register('nap', '(n) => new Promise((resolve) => setTimeout(() => resolve(n), 4000))', 'javascript');
});
afterAll(() => temporal.close());

test(
  'a submission whose workflow was deleted ends as done once its task has an answer',
  async () => {
    const { taskIds } = await http.submit(localEndpoint(), nap, [[7]]);
    const taskId = taskIds[0]!;
    const submissionId = submissionIdOf(taskId);
    await until('the task runs', async () => (await http.task(taskId)).state === 'running');
    await temporal.client.connection.workflowService.deleteWorkflowExecution({
      namespace: temporal.client.options.namespace,
      workflowExecution: { workflowId: await workflowIdOf(submissionId) },
    });
    expect(await http.value(taskId)).toBe(7);
    await until(
      'the submission is done',
      async () => (await http.ok('GET', `/v1/submissions/${submissionId}`)).state === 'done',
      { deadlineMs: 60_000 },
    );
  },
  TIMEOUT_MS,
);
