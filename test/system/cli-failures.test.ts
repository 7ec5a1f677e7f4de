import type { Client } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { Agent, funcx, localEndpoint, openTemporal, state } from '../helpers/system';
import { until } from '../helpers/until';

/* eslint-disable @typescript-eslint/no-explicit-any -- what the command line prints is looked into */

/** What a person sees of work that failed, and what an administrator sees of the work of others. */

const SOURCE = 'def NAME(n):\n    if n % 2 == 0:\n        raise ValueError(f"{n} is even")\n    return n\n';
const unique = Date.now().toString(36);

function json(...args: string[]): any {
  const { status, stdout, stderr } = funcx([...args, '--json']);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')}: ${status} ${stderr}`);
  return JSON.parse(stdout);
}

const text = (...args: string[]): string => {
  const { status, stdout, stderr } = funcx(args);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')}: ${status} ${stderr}`);
  return stdout;
};

let client: Client;
beforeAll(() => {
  client = sdkClient();
});
afterAll(() => client.close());

test('failures are counted, listed, found in Temporal and submitted again', async () => {
  const functionId = await client.registerFunction({
    language: 'python',
    name: `odd_${unique}`,
    source: SOURCE.replace('NAME', `odd_${unique}`),
  });
  const calls = [1, 2, 3, 4, 5].map((n) => ({ functionId, args: [n] }));
  const { taskIds, taskGroupId } = await client.submit(localEndpoint(), calls);
  const id = `${taskIds[0]?.slice(0, 31)}00000`;
  await until('the submission is done', async () => (await client.submission(id)).state === 'done');

  const line = text('submission', 'list', '--failed')
    .split('\n')
    .find((row) => row.includes(id));
  expect(line).toMatch(new RegExp(`^${id} +done, 2 failed +3/5 +odd_${unique} `));
  expect(text('submission', 'show', id.slice(0, 23))).toMatch(
    /state +done, 2 failed\n.*3 succeeded[^]*funcx task list --submission .* --state failed,expired/,
  );
  const listed = text('task', 'list', '--group', taskGroupId, '--state', 'failed').trim().split('\n');
  expect(listed).toHaveLength(3);
  expect(listed[1]).toMatch(new RegExp(`^${taskIds[1]} +failed .*ValueError: 2 is even$`));
  expect(json('task', 'list', '--submission', id).tasks).toHaveLength(5);
  expect(text('task', `${id.slice(0, 23)}/2`)).toMatch(
    /state +failed \(RemoteExecutionError\)[^]*host +\S+[^]*ran for +\d[^]*is even/,
  );

  const temporal = await openTemporal();
  try {
    await until('a query finds it', async () => {
      const query = `FuncXFailed > 0 AND FuncXEndpointName = "${(await client.submission(id)).endpoint_name}"`;
      for await (const { workflowId, status } of temporal.client.workflow.list({ query })) {
        if (workflowId === `submission/${id}-odd_${unique}-x5-on-local`) return status.name === 'COMPLETED';
      }
      return false;
    });
  } finally {
    await temporal.close();
  }

  const retried = json('retry', id);
  expect(retried).toMatchObject({ tasks: 2, submissions: [expect.any(String)] });
  const [again] = retried.submissions as string[];
  await until('the new one is done', async () => (await client.submission(again ?? '')).state === 'done');
  const why = json('task', 'list', '--submission', again ?? '').tasks.map((task: { error: string }) => task.error);
  expect(why).toEqual(['ValueError: 2 is even', 'ValueError: 4 is even']);
});

test('an administrator sees whose work runs, and stops it', async () => {
  const made = json('identity', 'create', `eve-${unique}`);
  const eve = sdkClient(made);
  const agent = await new Agent(`eves-${unique}`, {}, made).start();
  try {
    const functionId = await eve.registerFunction({ language: 'shell', name: 'sleep', source: 'sleep 600' });
    const { taskIds } = await eve.submit(agent.id, [{ functionId }]);
    const id = `${taskIds[0]?.slice(0, 31)}00000`;
    const rows = text('submission', 'list', '--all', '--open').split('\n');
    expect(rows[0]).toContain('OWNER');
    expect(rows.find((row) => row.includes(id))).toContain(` eve-${unique} `);
    expect(text('submission', 'list')).not.toContain(id);
    const asEve = { FUNCX_API_URL: state().api_url, FUNCX_CLIENT_ID: made.client_id, FUNCX_CLIENT_SECRET: made.client_secret };
    expect(funcx(['submission', 'list', '--all'], asEve)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/only administrators/),
    });
    expect(json('cancel', 'submission', id)).toEqual({ id, cancelled: 1 });
    await expect(eve.result(taskIds[0] ?? '')).rejects.toMatchObject({ code: 'Cancelled' });
    expect(text('submission', 'list', '--all')).toMatch(new RegExp(`${id} +cancelled, 1 cancelled +0/1 `));
  } finally {
    eve.close();
    await agent.stop();
  }
});
