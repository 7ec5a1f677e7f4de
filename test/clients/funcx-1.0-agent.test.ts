import { randomUUID } from 'node:crypto';

import { runScript, sdk104 } from '../helpers/funcx-1.0';
import { agent104, ReleasedAgent } from '../helpers/funcx-1.0-agent';
import { Http, management } from '../helpers/system';

/** The released agent 1.0.4 serves over RabbitMQ. */

let bin: string;
let sdk: string;
beforeAll(async () => {
  bin = await agent104();
  sdk = await sdk104();
}, 600_000);

const agents: ReleasedAgent[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.stop();
}, 120_000);

function newAgent(id: string = randomUUID()): ReleasedAgent {
  const agent = new ReleasedAgent(bin, id);
  agents.push(agent);
  return agent;
}

const brokerUsers = async (id: string): Promise<string[]> => {
  const users = (await management('users?columns=name')) as { name: string }[];
  return users.map(({ name }) => name).filter((name) => name.includes(id));
};

test('it registers, reports that it is online, runs a function and gives the value back', async () => {
  const agent = await (await newAgent().start()).untilOnline();
  const { stdout, stderr } = await runScript(
    sdk,
    `
endpoint = "${agent.id}"
def add(a, b):
    return a + b
print(FuncXExecutor(fxc).submit(add, 40, b=2, endpoint_id=endpoint).result(60))
status = fxc.get_endpoint_status(endpoint)
print(status["status"], "total_workers" in status["logs"][0])`,
  );
  expect({ stdout, stderr }).toEqual({ stdout: '42\nonline True\n', stderr: expect.anything() });
}, 120_000);

test('tasks wait while it is stopped and run when it starts again, with credentials of its own each time', async () => {
  const agent = await (await newAgent().start()).untilOnline();
  const before = await brokerUsers(agent.id);
  expect(before).toHaveLength(1);
  await agent.stop();
  const http = new Http();
  const fn = await registerAdd(agent.id);
  const task = fn.taskId;
  await agent.start();
  const answer = await http.answer(task, 60_000);
  expect(answer.status).toBe('success');
  const after = await brokerUsers(agent.id);
  expect(after).toHaveLength(1);
  expect(after).not.toEqual(before);
}, 180_000);

async function registerAdd(endpoint: string): Promise<{ taskId: string }> {
  const { stdout, stderr } = await runScript(
    sdk,
    `
def add(a, b):
    return a + b
print(fxc.run(1, 2, endpoint_id="${endpoint}", function_id=fxc.register_function(add)))`,
  );
  const taskId = stdout.trim();
  if (taskId === '') throw new Error(stderr);
  return { taskId };
}
