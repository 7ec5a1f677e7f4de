import { tasksQueueName } from '../../contracts/names';
import { timerSummariesOf } from '../helpers/runs';
import { Agent, Http, killAndWait, management, openTemporal, workflowIdOf } from '../helpers/system';
import { until } from '../helpers/until';

/** A task sent to an offline endpoint sleeps in the store and runs once the endpoint comes back. */

const http = new Http();
const agent = new Agent('offline', { FUNCX_WORKERS: '1' });
let square: string;

beforeAll(async () => {
  await agent.start();
  square = await http.register('square', 'def square(x):\n    return x * x');
  await agent.stop();
  await agent.untilOffline();
});
afterAll(() => agent.stop());

test('it waits without a word on the broker and without a growing history, over restarts, and then runs', async () => {
  const { taskIds } = await http.submit(agent.id, square, [[3], [4]]);
  const { client, close } = await openTemporal();
  const handle = client.workflow.getHandle(await workflowIdOf(taskIds[0] ?? ''));
  const lengthNow = async (): Promise<number> => (await handle.describe()).historyLength;
  // Its last act before it sleeps; both timers are set in one workflow task.
  await until('it sleeps', async () => timerSummariesOf((await handle.fetchHistory()).events ?? []).length === 2);
  const before = await lengthNow();

  const queue = await management(`queues/funcx/${tasksQueueName(agent.id)}`);
  expect(queue.messages ?? 0).toBe(0);
  await killAndWait('workers');
  await killAndWait('api');
  expect(await lengthNow()).toBe(before);

  const workflow = await handle.query<Record<string, number>>('tasks');
  expect(workflow).toEqual({ waiting: 2 });
  await agent.start();
  expect(await http.value(taskIds[0] ?? '')).toBe(9);
  expect(await http.value(taskIds[1] ?? '')).toBe(16);
  await close();
});
