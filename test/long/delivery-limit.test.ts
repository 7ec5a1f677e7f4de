import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { tasksQueueName } from '../../contracts/names';
import { Agent, funcx, Http, management, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * RabbitMQ 4 gives up on a message of a quorum queue after 20 deliveries unless told otherwise; the service tells it otherwise
 * where it understands that. Here the limit is in force, as on a broker whose operator insists on it.
 */

const LIMIT = 20;
const MAX_RECONNECTS = 3 * LIMIT;
const TIMEOUT_MS = 300_000;
const POLICY = 'policies/funcx/test-delivery-limit';

const http = new Http();
const agent = new Agent('delivery-limit', { FUNCX_WORKERS: '1' });
const folder = mkdtempSync(join(tmpdir(), 'funcx-delivery-limit-'));
let gated: string;

beforeAll(async () => {
  chmodSync(folder, 0o777); // as root, the agent runs its workers as an account of their own
  await agent.start();
  gated = await http.register(
    'gated',
    'def gated(n, runs, gate):\n    import os, time\n    with open(runs, "a") as f:\n        f.write(f"{n}\\n")\n' +
      '    while not os.path.exists(gate):\n        time.sleep(0.05)\n    return n * 10',
  );
  const definition = { 'delivery-limit': LIMIT };
  const policy = {
    pattern: `^${tasksQueueName(agent.id).replaceAll('.', '[.]')}$`,
    definition,
    'apply-to': 'queues',
    priority: 100,
  };
  await management(POLICY, { method: 'PUT', body: JSON.stringify(policy) });
  await until('the limit is in force', async () => {
    return (await management(`queues/funcx/${tasksQueueName(agent.id)}`)).policy === 'test-delivery-limit';
  });
});
afterAll(async () => {
  await management(POLICY, { method: 'DELETE' });
  await agent.stop();
});

interface Connection {
  name: string;
  user: string;
}

/**
 * Cuts the agent's connection until the broker has given up on its tasks: each time they are delivered once more. A connection
 * that was cut before it got them does not count.
 */
async function reconnectUntilGivenUp(): Promise<void> {
  const given = lettersOfTheLimit();
  let cut = '';
  for (let n = 0; n < MAX_RECONNECTS && lettersOfTheLimit() === given; n++) {
    const connection = await until(
      `connection ${n} of the agent is there`,
      async () => {
        const all = (await management('connections?columns=name,user')) as Connection[];
        return all.find(({ name, user }) => name !== cut && user?.startsWith(`agent-${agent.id}`));
      },
      { deadlineMs: 60_000 },
    );
    // Only a delivery that reached the agent counts.
    await until('its tasks are with it', async () => {
      const { messages_unacknowledged: unacknowledged, consumers } = await management(`queues/funcx/${tasksQueueName(agent.id)}`);
      return consumers > 0 || unacknowledged > 0;
    });
    cut = connection.name;
    await management(`connections/${encodeURIComponent(cut)}`, { method: 'DELETE' });
  }
  await until('the broker has given up on every task', async () => {
    const { messages } = await management(`queues/funcx/${tasksQueueName(agent.id)}`);
    return messages === 0 && lettersOfTheLimit() > given;
  });
  await until('the agent is online', async () => (await http.ok('GET', `/v2/endpoints/${agent.id}/status`)).status === 'online');
}

const lettersOfTheLimit = (): number => {
  const { dead_letters: letters } = JSON.parse(funcx(['dead-letters', 'list', '--json']).stdout) as {
    dead_letters: { queue: string; reason: string }[];
  };
  return letters.filter(({ queue, reason }) => queue === tasksQueueName(agent.id) && reason.startsWith('delivery_limit')).length;
};

const runsOf = (file: string): number[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').map(Number) : []);

test(
  'an agent that reconnects more often than the delivery limit allows loses no task, and runs none twice',
  async () => {
    const [runs, gate] = [join(folder, 'runs-1'), join(folder, 'gate-1')];
    const { taskIds } = await http.submit(
      agent.id,
      gated,
      [1, 2, 3].map((n) => [n, runs, gate]),
    );
    await until('the first runs', () => runsOf(runs).length === 1);
    await reconnectUntilGivenUp();
    writeFileSync(gate, '');
    expect(await Promise.all(taskIds.map((id) => http.value(id)))).toEqual([10, 20, 30]);
    expect(runsOf(runs)).toEqual([1, 2, 3]);
  },
  TIMEOUT_MS,
);

test(
  'what the broker gave up on is dispatched again when its agent is lost as well',
  async () => {
    const [runs, gate] = [join(folder, 'runs-2'), join(folder, 'gate-2')];
    const taskId = await http.submitOne(agent.id, gated, [4, runs, gate]);
    await until('it runs', () => runsOf(runs).length === 1);
    await reconnectUntilGivenUp();
    await agent.stop('SIGKILL');
    await agent.start();
    writeFileSync(gate, '');
    expect(await http.value(taskId)).toBe(40);
    expect(runsOf(runs)).toEqual([4, 4]);
    const store = openStore();
    const { rows } = await store.query('select attempt, losses from tasks where id = $1', [taskId]);
    expect(rows).toEqual([{ attempt: 2, losses: 1 }]);
    await store.end();
  },
  TIMEOUT_MS,
);
