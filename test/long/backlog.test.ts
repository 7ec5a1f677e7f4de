import { taskQueueName } from '../../contracts/names';
import { splitBuffer } from '../../contracts/packing';
import { Agent, Http, killAndWait, management, openStore } from '../helpers/system';

/** Many tasks for an offline endpoint: they rest in the store, and every value is right once it is back. */

const http = new Http();
const TASKS = 2_000;
const A_REQUEST = 500;

test('a backlog for an offline endpoint rests in the store over restarts, then every value comes, and others are not held up', async () => {
  const agent = await new Agent('backlog', { FUNCX_WORKERS: '2' }).start();
  const next = await http.register('next', 'function next(x) { return x + 1; }', 'javascript');
  await agent.stop();
  await agent.untilOffline();

  const taskIds: string[] = [];
  let groupId: string | undefined;
  for (let from = 0; from < TASKS; from += A_REQUEST) {
    const calls = Array.from({ length: A_REQUEST }, (_, n) => [from + n]);
    const submitted = await http.submit(agent.id, next, calls, groupId === undefined ? {} : { task_group_id: groupId });
    groupId = submitted.groupId;
    taskIds.push(...submitted.taskIds);
  }
  await killAndWait('workers');
  const queue = await management(`queues/funcx/${taskQueueName(agent.id)}`);
  expect(queue.messages ?? 0).toBe(0);

  await agent.start();
  const values = new Map<string, unknown>();
  let after = 0;
  while (values.size < TASKS) {
    const page = await http.ok('GET', `/v1/taskgroups/${groupId}/results?after=${after}&limit=1000&wait_s=20`);
    for (const one of page.results) values.set(one.task_id as string, JSON.parse(splitBuffer(one.result as string).body));
    if (page.next === after) throw new Error(`no result came for 20 s; ${values.size} are there`);
    after = page.next as number;
  }
  expect(taskIds.map((id) => values.get(id))).toEqual(taskIds.map((_, n) => n + 1));
  expect(after).toBe(TASKS);
  const store = openStore();
  const { rows } = await store.query('select in_flight from task_queues where id = $1', [agent.id]);
  expect(rows).toEqual([{ in_flight: 0 }]);
  await store.end();
  await agent.stop();
});
