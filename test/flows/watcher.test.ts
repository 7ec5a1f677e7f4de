import { flowWorkflowId } from '../../contracts/flows';
import { SEARCH_ATTRIBUTE } from '../../contracts/names';
import { action, cancelRun, endOfRun, makeFlow, startRun } from '../helpers/flows';
import { admin, Http, localEndpoint, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/** What a person who watches a run in the Temporal UI sees, read as the UI reads it. */

const http = new Http();
let temporal: Awaited<ReturnType<typeof openTemporal>>;

beforeAll(async () => {
  temporal = await openTemporal();
});
afterAll(() => temporal.close());

const handleOf = (runId: string) => temporal.client.workflow.getHandle(flowWorkflowId(runId));

async function detailsOf(runId: string): Promise<string> {
  return (await handleOf(runId).query<{ currentDetails?: string }>('__temporal_workflow_metadata')).currentDetails ?? '';
}

async function attributesOf(workflowId: string): Promise<Record<string, unknown>> {
  const { searchAttributes } = await temporal.client.workflow.getHandle(workflowId).describe();
  return Object.fromEntries(Object.entries(searchAttributes).map(([name, values]) => [name, values?.[0]]));
}

test('the title is the summary, and each step has its state, its times and a link to its submission', async () => {
  const add = await http.register('add_watched', 'def add_watched(a, b):\n    return a + b\n');
  const title = `watched ${Date.now()}`;
  const flowId = await makeFlow(title, {
    StartAt: 'Add',
    States: {
      Add: action(localEndpoint(), add, { a: 1, b: 2 }, { ResultPath: '$.sum', Next: 'Rest' }),
      Rest: { Type: 'Wait', Seconds: 600, End: true },
    },
  });
  const runId = await startRun(flowId, {});
  const details = await until('it rests', async () => {
    const text = await detailsOf(runId);
    return text.includes('| Rest | Wait | running |') ? text : undefined;
  });
  expect(details).toContain(`**${title}**`);
  const row = details.split('\n').find((line) => line.startsWith('| Add | Action | done |')) ?? '';
  expect(row).toMatch(/\| \d{4}-\d\d-\d\dT[\d:.]+Z \| \d+\.\d s \| \[submission\]\(http[^)]+\) \|$/);
  const { events } = await handleOf(runId).fetchHistory();
  const child = (events ?? []).flatMap((event) => {
    const id = event.childWorkflowExecutionStartedEventAttributes?.workflowExecution?.workflowId;
    return id ? [id] : [];
  });
  expect(child).toHaveLength(1);
  expect(child[0]).toMatch(/^submission\//);
  expect(decodeURIComponent(row)).toContain(child[0]!);

  const { raw } = await handleOf(runId).describe();
  const summary = raw.executionConfig?.userMetadata?.summary?.data;
  expect(JSON.parse(Buffer.from(summary ?? []).toString())).toBe(title);
  const wanted = { [SEARCH_ATTRIBUTE.flow]: flowId, [SEARCH_ATTRIBUTE.owner]: admin().client_id };
  expect(await attributesOf(flowWorkflowId(runId))).toMatchObject(wanted);
  await cancelRun(runId);
  await endOfRun(runId);
});

test('a run of a schedule is found by its flow and its owner', async () => {
  const flowId = await makeFlow('scheduled and watched', { StartAt: 'A', States: { A: { Type: 'Pass', End: true } } });
  const body = { name: `watched-${Date.now()}`, target: { flow: flowId }, cron: ['0 0 1 1 *'] };
  const { schedule_id: id } = await http.ok('POST', '/v1/schedules', body);
  await http.ok('POST', `/v1/schedules/${id}/trigger`);
  const query = `WorkflowType = 'flowRun' AND ${SEARCH_ATTRIBUTE.flow} = '${flowId}'`;
  const found = await until('the run is listed', async () => {
    for await (const { workflowId } of temporal.client.workflow.list({ query })) return workflowId;
    return undefined;
  });
  expect(await attributesOf(found)).toMatchObject({ [SEARCH_ATTRIBUTE.owner]: admin().client_id });
  await http.ok('DELETE', `/v1/schedules/${id}`);
});
