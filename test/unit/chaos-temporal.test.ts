import type { Client } from '@temporalio/client';

import { WORKFLOW } from '../../contracts/names';
import { checkTemporal } from '../chaos/check-temporal';

/** The checker of chaos reports what it finds in Temporal. */

interface Workflow {
  id: string;
  type: string;
  status: 'RUNNING' | 'COMPLETED' | 'FAILED' | 'TERMINATED';
  raw?: {
    pendingWorkflowTask?: { attempt: number; originalScheduledTime: { seconds: number } };
    pendingActivities?: { activityType: { name: string }; attempt: number }[];
  };
}

const endpoint = (raw: Workflow['raw'] = {}): Workflow => ({ id: 'endpoint/e', type: WORKFLOW.endpoint, status: 'RUNNING', raw });
const submission = (status: Workflow['status']): Workflow => ({ id: 'submission/s', type: WORKFLOW.submission, status });
const now = (): { seconds: number } => ({ seconds: Date.now() / 1_000 });

async function rulesBroken(...workflows: Workflow[]): Promise<string[]> {
  const client = {
    workflow: {
      list: async function* ({ query }: { query: string }) {
        const names = { RUNNING: 'Running', COMPLETED: 'Completed', FAILED: 'Failed', TERMINATED: 'Terminated' };
        for (const { id, type, status } of workflows) {
          if (query.includes(`'${names[status]}'`)) yield { workflowId: id, type, status: { name: status } };
        }
      },
      getHandle: (id: string) => ({ describe: async () => ({ raw: workflows.find((one) => one.id === id)?.raw ?? {} }) }),
    },
  } as unknown as Client;
  return (await checkTemporal(client)).map(({ rule }) => rule);
}

test('workflows that completed and an endpoint that is idle break no rule of chaos', async () => {
  expect(await rulesBroken(submission('COMPLETED'), endpoint())).toEqual([]);
  expect(await rulesBroken(endpoint({ pendingWorkflowTask: { attempt: 1, originalScheduledTime: now() } }))).toEqual([]);
});

test('a workflow that is left open, and one that did not complete, are reported by the checker of chaos', async () => {
  expect(await rulesBroken(submission('RUNNING'))).toEqual(['no workflow is left open']);
  expect(await rulesBroken(submission('FAILED'))).toEqual(['every workflow completes']);
  expect(await rulesBroken(submission('TERMINATED'))).toEqual(['every workflow completes']);
});

test('a workflow task that is retried or that nobody takes is reported by the checker of chaos', async () => {
  const rule = 'no workflow task is stuck';
  expect(await rulesBroken(endpoint({ pendingWorkflowTask: { attempt: 2, originalScheduledTime: now() } }))).toEqual([rule]);
  const longAgo = { seconds: now().seconds - 60 };
  expect(await rulesBroken(endpoint({ pendingWorkflowTask: { attempt: 1, originalScheduledTime: longAgo } }))).toEqual([rule]);
});

test('a pump that still runs is reported by the checker of chaos', async () => {
  const pending = [{ activityType: { name: 'pump' }, attempt: 1 }];
  expect(await rulesBroken(endpoint({ pendingActivities: pending }))).toEqual(['no activity of an idle endpoint is pending']);
});
