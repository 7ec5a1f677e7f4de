import { mkdtempSync, readFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { submissionIdOf } from '../../contracts/ids';
import { Agent, Http, isAlive, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** Cancel: before dispatch a task never runs, queued it is skipped, running it is stopped with its child processes. */

const http = new Http();
const dir = mkdtempSync(join(tmpdir(), 'funcx-cancel-'));
const agent = new Agent('cancel', { FUNCX_WORKERS: '1' });
let touch: string;
let linger: string;

beforeAll(async () => {
  await agent.start();
  touch = await http.register('touch', 'def touch(path):\n    open(path, "w").close()');
  linger = await http.register(
    'linger',
    'def linger(path):\n    import subprocess, os\n    child = subprocess.Popen(["sleep", "600"])\n' +
      '    with open(path + ".new", "w") as f:\n        f.write(str(child.pid))\n    os.rename(path + ".new", path)\n    child.wait()',
  );
});
afterAll(() => agent.stop());

const file = (name: string): string => join(dir, name);

/** Occupies the one worker; resolves with the pid of the call's child process. */
async function occupy(name: string): Promise<{ taskId: string; childPid: number }> {
  const { taskIds } = await http.submit(agent.id, linger, [[file(name)]]);
  await until('the call runs', () => existsSync(file(name)));
  return { taskId: taskIds[0] ?? '', childPid: Number(readFileSync(file(name), 'utf8')) };
}

const expectCancelled = async (taskId: string): Promise<void> =>
  expect(await http.answer(taskId)).toMatchObject({ state: 'cancelled', error_code: 'Cancelled', status: 'failed' });

test('a running task that is cancelled is stopped, its child processes too, and one that is queued behind it is skipped', async () => {
  const running = await occupy('running');
  const queued = await http.submit(agent.id, touch, [[file('queued')]]);
  await until('the second task is at the agent', async () => (await http.task(queued.taskIds[0] ?? '')).state === 'dispatched');

  expect(await http.ok('POST', `/v1/tasks/${queued.taskIds[0]}/cancel`)).toEqual({ cancelled: 1 });
  expect(await http.ok('POST', `/v1/tasks/${running.taskId}/cancel`)).toEqual({ cancelled: 1 });
  await expectCancelled(running.taskId);
  await expectCancelled(queued.taskIds[0] ?? '');
  await until('the child process is gone', () => !isAlive(running.childPid));

  const taskId = await http.submitOne(agent.id, touch, [file('after')]);
  await http.value(taskId);
  expect(existsSync(file('queued'))).toBe(false);
});

test('a task that was answered cannot be cancelled any more', async () => {
  const taskId = await http.submitOne(agent.id, touch, [file('done')]);
  await http.value(taskId);
  expect(await http.ok('POST', `/v1/tasks/${taskId}/cancel`)).toEqual({ cancelled: 0 });
  expect(await http.answer(taskId)).toMatchObject({ state: 'succeeded' });
});

test('the cancel button of the Temporal UI ends every open task of the submission, and the run shows as cancelled', async () => {
  const running = await occupy('button');
  const { client, close } = await openTemporal();
  const handle = client.workflow.getHandle(await workflowIdOf(running.taskId));
  await handle.cancel();
  await expectCancelled(running.taskId);
  await until('the child process is gone', () => !isAlive(running.childPid));
  await until('the run is closed', async () => (await handle.describe()).status.name === 'CANCELLED');
  const submission = await http.ok('GET', `/v1/submissions/${submissionIdOf(running.taskId)}`);
  expect(submission).toMatchObject({ state: 'cancelled', open: 0 });
  await close();
});

test('a task group that waits for an offline endpoint is cancelled and never runs', async () => {
  const away = new Agent('cancel-offline');
  await away.start();
  await away.stop();
  await away.untilOffline();
  const first = await http.submit(away.id, touch, [[file('group-1')], [file('group-2')]]);
  const second = await http.submit(away.id, touch, [[file('group-3')]], { task_group_id: first.groupId });
  expect(await http.ok('POST', `/v1/taskgroups/${first.groupId}/cancel`)).toEqual({ cancelled: 3 });
  for (const id of [...first.taskIds, ...second.taskIds]) await expectCancelled(id);

  await away.start();
  const taskId = await http.submitOne(away.id, touch, [file('group-after')]);
  await http.value(taskId);
  for (const n of [1, 2, 3]) expect(existsSync(file(`group-${n}`))).toBe(false);
  await away.stop();
});

test('a submission whose workflow is terminated gets its answers all the same', async () => {
  const running = await occupy('terminated');
  const { client, close } = await openTemporal();
  await client.workflow.getHandle(await workflowIdOf(running.taskId)).terminate('by hand');
  await expectCancelled(running.taskId);
  await until('the child process is gone', () => !isAlive(running.childPid));
  await close();
});
