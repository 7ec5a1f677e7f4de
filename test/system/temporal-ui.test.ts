import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from '@temporalio/client';

import { endpointWorkflowId, QUERY, SEARCH_ATTRIBUTE } from '../../contracts/names';
import { admin, Agent, Http, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** What a person sees in the Temporal UI, read back from the server as the UI reads it. */

/** Tasks end when their file appears: so each state lasts for as long as the test looks at it. */
const UNTIL_FILE = `
def held(path, fail):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.02)
    if fail:
        raise ValueError("the sample is empty")
    return path
`;

const folder = mkdtempSync(join(tmpdir(), 'funcx-ui-'));
const http = new Http();
const agent = new Agent(`ui-${Date.now()}`, { FUNCX_WORKERS: '2' });
let temporal: { client: Client; close(): Promise<void> };

beforeAll(async () => {
  temporal = await openTemporal();
  await agent.start();
});

afterAll(async () => {
  await agent.stop();
  await temporal.close();
});

const handleOf = async (taskId: string) => temporal.client.workflow.getHandle(await workflowIdOf(taskId));

/** The UI asks this query for the details that a workflow sets while it runs. */
async function detailsOf(taskId: string): Promise<string> {
  const metadata = await (await handleOf(taskId)).query<{ currentDetails?: string }>('__temporal_workflow_metadata');
  return metadata.currentDetails ?? '';
}

async function attributesOf(taskId: string): Promise<Record<string, unknown>> {
  const { searchAttributes } = await (await handleOf(taskId)).describe();
  return Object.fromEntries(Object.entries(searchAttributes).map(([name, values]) => [name, values?.[0]]));
}

const untilDetails = (taskId: string, wanted: RegExp): Promise<string> =>
  until(`the details of ${taskId} say ${wanted}`, async () => {
    const details = await detailsOf(taskId);
    return wanted.test(details) ? details : undefined;
  });

async function timerSummaries(taskId: string): Promise<string[]> {
  const { events } = await (await handleOf(taskId)).fetchHistory();
  return (events ?? [])
    .filter((event) => event.timerStartedEventAttributes)
    .map((event) => JSON.parse(Buffer.from(event.userMetadata?.summary?.data ?? '').toString() || '""') as string);
}

describe('a submission in the Temporal UI', () => {
  test('shows in every state of its life who, what, where, and how far', async () => {
    const functionId = await http.register('held', UNTIL_FILE);
    await agent.stop();
    await agent.untilOffline();
    const paths = [0, 1, 2].map((n) => join(folder, `${Date.now()}-${n}`));
    const { taskIds, groupId } = await http.submit(
      agent.id,
      functionId,
      paths.map((path, n) => [path, n === 2]),
    );
    const first = taskIds[0]!; // three were submitted

    // Waiting.
    const waiting = await untilDetails(first, /3 tasks: \*\*3\*\* waiting/);
    expect(waiting).toContain(`**held** on **${agent.name}** for **admin**`);
    expect(waiting).toContain(`**3 tasks wait because ${agent.name} is offline** since `);
    const description = await (await handleOf(first)).describe();
    expect(description.status.name).toBe('RUNNING');
    expect(await description.staticSummary()).toBe(`held x3 on ${agent.name} for admin`);
    const expected = {
      [SEARCH_ATTRIBUTE.endpoint]: agent.id,
      [SEARCH_ATTRIBUTE.function]: 'held',
      [SEARCH_ATTRIBUTE.owner]: admin().client_id,
      [SEARCH_ATTRIBUTE.group]: groupId,
    };
    expect(await attributesOf(first)).toMatchObject({ ...expected, [SEARCH_ATTRIBUTE.state]: 'waiting' });
    expect(await (await handleOf(first)).query(QUERY.tasks)).toEqual({ waiting: 3 });
    const summaries = await timerSummaries(first);
    expect(summaries.length).toBeGreaterThan(0);
    for (const summary of summaries) expect(summary).toMatch(/^(deadline|next poll of the tasks,) \d+ [A-Z][a-z]+ [\d: ]+UTC$/);

    // Running: two workers, so two run at a time; the failing one is the third.
    await agent.start();
    writeFileSync(paths[0]!, '');
    const running = await untilDetails(first, /\*\*1\*\* succeeded/);
    expect(running).toMatch(/\*\*[12]\*\* (running|sent to the agent)/);
    expect(running).not.toContain('offline');
    await until('the attribute says running', async () => (await attributesOf(first))[SEARCH_ATTRIBUTE.state] === 'running');

    // A failure, with the first line that tells something.
    writeFileSync(paths[2]!, '');
    const failed = await untilDetails(first, /\*\*1\*\* failed/);
    expect(failed).toContain('Last failures:');
    expect(failed).toContain(taskIds[2]);
    expect(await (await handleOf(first)).query(QUERY.failures)).toEqual([
      { taskId: taskIds[2], code: 'RemoteExecutionError', text: expect.stringContaining('the sample is empty') },
    ]);

    // Done.
    writeFileSync(paths[1]!, '');
    await until('the workflow is closed', async () => (await (await handleOf(first)).describe()).status.name === 'COMPLETED');
    expect(await attributesOf(first)).toMatchObject({ ...expected, [SEARCH_ATTRIBUTE.state]: 'done' });
    expect(await (await handleOf(first)).query(QUERY.tasks)).toEqual({ succeeded: 2, failed: 1 });
    expect(await (await handleOf(first)).result()).toEqual({ state: 'done', counts: { succeeded: 2, failed: 1 } });
    expect(paths.map((path) => existsSync(path))).toEqual([true, true, true]);
  });

  test('is found by owner and endpoint, and by its state', async () => {
    const functionId = await http.register('quick', 'def quick():\n    return 1\n');
    const taskId = await http.submitOne(agent.id, functionId, []);
    await http.value(taskId);
    const query = `${SEARCH_ATTRIBUTE.owner} = "${admin().client_id}" AND ${SEARCH_ATTRIBUTE.endpoint} = "${agent.id}"`;
    const list = async (more = ''): Promise<string[]> => {
      const ids: string[] = [];
      for await (const { workflowId } of temporal.client.workflow.list({ query: query + more })) ids.push(workflowId);
      return ids;
    };
    const wanted = (await handleOf(taskId)).workflowId;
    await until('the query finds it', async () => (await list(` AND ${SEARCH_ATTRIBUTE.state} = "done"`)).includes(wanted));
    expect((await list()).every((id) => id.startsWith('submission/'))).toBe(true);
    expect(await list(` AND ${SEARCH_ATTRIBUTE.state} = "waiting"`)).not.toContain(wanted);
  });

  test('that is cancelled with the button of the UI ends as cancelled for its submitter', async () => {
    const functionId = await http.register('held', UNTIL_FILE);
    const { taskIds } = await http.submit(agent.id, functionId, [[join(folder, 'never'), false]]);
    const taskId = taskIds[0]!; // one was submitted
    await (await handleOf(taskId)).cancel();
    expect(await http.answer(taskId)).toMatchObject({ status: 'failed', state: 'cancelled' });
    await until(
      'the run shows as cancelled',
      async () => (await (await handleOf(taskId)).describe()).status.name === 'CANCELLED',
    );
    expect(await attributesOf(taskId)).toMatchObject({ [SEARCH_ATTRIBUTE.state]: 'cancelled' });
  });
});

describe('an endpoint in the Temporal UI', () => {
  test('shows whether it is online and since when', async () => {
    const handle = temporal.client.workflow.getHandle(endpointWorkflowId(agent.id));
    expect(await (await handle.describe()).staticSummary()).toBe(`endpoint ${agent.name}`);
    const presence = await until('the endpoint is online', async () => {
      const answer = await handle.query<{ isOnline: boolean; sinceMs: number }>(QUERY.presence);
      return answer.isOnline ? answer : undefined;
    });
    expect(Math.abs(Date.now() - presence.sinceMs)).toBeLessThan(10 * 60_000);
    const { currentDetails } = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    expect(currentDetails).toContain(`**${agent.name}** has been **online** since `);
  });

  test('that is offline counts what waits there and whose it is, and one that was deleted says so', async () => {
    const other = await new Agent(`ui-gone-${Date.now()}`).start();
    await other.stop();
    await other.untilOffline();
    const functionId = await http.register('quick', 'def quick():\n    return 1\n');
    const { taskIds } = await http.submit(other.id, functionId, [[], []]);
    const handle = temporal.client.workflow.getHandle(endpointWorkflowId(other.id));
    const details = async (): Promise<string> =>
      (await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')).currentDetails ?? '';
    const waiting = await until('what waits is counted', async () => {
      const text = await details();
      return text.includes('**2 tasks wait** for its agent, the oldest since') ? text : undefined;
    });
    expect(waiting).toContain('Owners: admin (2).');
    expect(waiting).toContain(`**${other.name}** has been **offline** since `);
    await http.ok('DELETE', `/v2/endpoints/${other.id}`);
    expect(await http.answer(taskIds[0]!)).toMatchObject({ error_code: 'EndpointDeleted' });
    await until('its workflow is closed', async () => (await handle.describe()).status.name === 'COMPLETED');
    expect(await details()).toContain(`**${other.name}** was deleted.`);
  });
});
