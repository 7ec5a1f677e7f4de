import { flowWorkflowId } from '../../contracts/flows';
import { FLOW_FAIL_POINTS } from '../../platform/fail-points';
import { flowScope } from '../../contracts/scopes';
import { endOfRun, flowsCall, makeFlow, resumeRun, startRun, tokenFor } from '../helpers/flows';
import { ownApi } from '../helpers/own-api';
import { admin, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/** How often a run is started, and what ends it when its workflow is gone. */

const PASS = { StartAt: 'A', States: { A: { Type: 'Pass', End: true } } };
const REST = { StartAt: 'Rest', States: { Rest: { Type: 'Wait', SecondsPath: '$.s', End: true } } };

const runsOf = async (flowId: string): Promise<{ run_id: string; status: string }[]> =>
  (await flowsCall('GET', `/runs?filter_flow_id=${flowId}`)).body.runs as { run_id: string; status: string }[];

/** As the SDK repeats a request whose connection broke. */
async function startAt(url: string, flowId: string): Promise<string> {
  const token = await tokenFor(flowScope(flowId), admin());
  return until(
    'the start is answered',
    async () => {
      const response = await fetch(`${url}/flows/${flowId}/run`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ body: {}, label: 'once' }),
      }).catch(() => undefined);
      if (response === undefined || response.status >= 500) return undefined;
      expect(response.status).toBe(201);
      return ((await response.json()) as { run_id: string }).run_id;
    },
    { deadlineMs: 60_000 },
  );
}

test.each(FLOW_FAIL_POINTS)(
  'an API that dies at %s leaves one run, which the repeat of the start gets',
  async (point) => {
    const flowId = await makeFlow(`dies at ${point}`, PASS);
    const api = await ownApi({ FUNCX_FAIL_POINT: point });
    try {
      const runId = await startAt(api.url, flowId);
      expect(api.deaths()).toBe(1);
      expect(await endOfRun(runId)).toMatchObject({ status: 'SUCCEEDED' });
      expect(await runsOf(flowId)).toEqual([expect.objectContaining({ run_id: runId })]);
      // The answer was written, so an equal start is another run.
      const next = await startAt(api.url, flowId);
      expect(next).not.toBe(runId);
      expect(await runsOf(flowId)).toHaveLength(2);
    } finally {
      await api.close();
    }
  },
  120_000,
);

test('a run whose workflow somebody terminated ends as failed, and can be resumed', async () => {
  const flowId = await makeFlow('terminated', REST);
  const runId = await startRun(flowId, { s: 3 });
  const temporal = await openTemporal();
  try {
    await temporal.client.workflow.getHandle(flowWorkflowId(runId)).terminate('by hand');
  } finally {
    await temporal.close();
  }
  expect(await endOfRun(runId)).toMatchObject({
    status: 'FAILED',
    details: { code: 'FlowFailed', error: 'States.Runtime', description: expect.stringContaining('terminated') as string },
  });
  await resumeRun(flowId, runId);
  expect(await endOfRun(runId)).toMatchObject({ status: 'SUCCEEDED' });
});

test('a run whose Map was terminated ends as failed, and goes on with the items that have no end', async () => {
  const flowId = await makeFlow('terminated Map', {
    StartAt: 'Fan',
    States: {
      Fan: {
        Type: 'Map',
        ItemsPath: '$.items',
        ItemProcessor: { StartAt: 'Rest', States: { Rest: { Type: 'Wait', SecondsPath: '$.s', End: true } } },
        ResultPath: '$.done',
        End: true,
      },
    },
  });
  const runId = await startRun(flowId, { items: [{ s: 0 }, { s: 20 }] });
  const temporal = await openTemporal();
  try {
    await until('the Map runs', async () => {
      for await (const { workflowId } of temporal.client.workflow.list({
        query: `WorkflowType = 'flowMap' AND WorkflowId STARTS_WITH '${flowWorkflowId(runId)}/' AND ExecutionStatus = 'Running'`,
      })) {
        await temporal.client.workflow.getHandle(workflowId).terminate('by hand');
        return true;
      }
      return undefined;
    });
  } finally {
    await temporal.close();
  }
  expect(await endOfRun(runId)).toMatchObject({ status: 'FAILED', details: { error: 'States.Runtime' } });
  await resumeRun(flowId, runId);
  expect(await endOfRun(runId)).toMatchObject({ status: 'SUCCEEDED', details: { output: { done: [{ s: 0 }, { s: 20 }] } } });
});
