import { Agent, Http, management, openStore } from '../helpers/system';
import { until } from '../helpers/until';
import { tasksQueueName } from '../../contracts/names';

/** Deleting what is in use: every open task gets a clear answer, and nothing is left behind. */

const http = new Http();

test('deleting an endpoint ends its agent, answers its open tasks, and takes its queues and broker users', async () => {
  const agent = await new Agent('deleted', { FUNCX_WORKERS: '1' }).start();
  const id = agent.id;
  const nap = await http.register('nap', 'def nap(s):\n    import time\n    time.sleep(s)');
  const { taskIds } = await http.submit(id, nap, [[600], [600], [600]]);
  await until('one runs', async () => (await http.task(taskIds[0] ?? '')).state === 'running');
  await http.ok('DELETE', `/v2/endpoints/${id}`);
  for (const task of taskIds) {
    const answer = await http.answer(task);
    expect(answer).toMatchObject({ state: 'failed', error_code: 'EndpointDeleted' });
    expect(answer.exception).toContain(id);
  }
  expect((await http.request('POST', `/v3/endpoints/${id}/submit`, { tasks: { [nap]: ['x'] } })).status).not.toBe(200);
  const store = openStore();
  await until('nothing is left of it', async () => {
    const { rows } = await store.query('select swept_at from endpoints where id = $1 and swept_at is not null', [id]);
    const users = await store.query('select name from broker_users where endpoint_queue_id = $1 and expires_at is null', [id]);
    const queue = await management(`queues/funcx/${tasksQueueName(id)}`);
    return rows.length === 1 && users.rows.length === 0 && queue.error !== undefined;
  });
  await store.end();
  await agent.stop();
});

test('a task that was accepted before its function was deleted still runs', async () => {
  const agent = await new Agent('kept', { FUNCX_WORKERS: '1' }).start();
  await agent.stop();
  await agent.untilOffline();
  const fine = await http.register('fine', 'def fine(x):\n    return x');
  const taskId = await http.submitOne(agent.id, fine, [5]);
  await http.ok('DELETE', `/v2/functions/${fine}`);
  await agent.start();
  expect(await http.value(taskId)).toBe(5);
  await agent.stop();
});
