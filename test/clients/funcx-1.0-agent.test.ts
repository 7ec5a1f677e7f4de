import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';

import { packJsonArguments } from '../../contracts/packing';
import { runScript, sdk104 } from '../helpers/funcx-1.0';
import { agent104, ReleasedAgent } from '../helpers/funcx-1.0-agent';
import { Http, management, openStore } from '../helpers/system';
import { until } from '../helpers/until';

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
  const { taskId } = await submitAdd(agent.id);
  await agent.start();
  const answer = await http.answer(taskId, 60_000);
  expect(answer.status).toBe('success');
  const after = await brokerUsers(agent.id);
  expect(after).toHaveLength(1);
  expect(after).not.toEqual(before);
}, 180_000);

test('with its credentials revoked in the middle of 100 tasks it comes back, and every value is right', async () => {
  const agent = await (await newAgent().start()).untilOnline();
  const store = openStore();
  try {
    const script = runScript(
      sdk,
      `
def nap(i):
    import time
    time.sleep(0.1)
    return i * i
executor = FuncXExecutor(fxc)
futures = [executor.submit(nap, i, endpoint_id="${agent.id}") for i in range(100)]
print(sum(f.result(timeout=150) == i * i for i, f in enumerate(futures)))`,
      { deadlineMs: 170_000 },
    );
    await until('20 tasks have an answer', async () => {
      const { rows } = await store.query<{ n: number }>(
        "select count(*)::integer as n from tasks where endpoint_queue_id = $1 and state = 'succeeded'",
        [agent.id],
      );
      return (rows[0]?.n ?? 0) >= 20 ? true : undefined;
    });
    const [user] = await brokerUsers(agent.id);
    await management(`users/${user}`, { method: 'DELETE' });
    expect((await script).stdout).toBe('100\n');
    const [renewed] = await brokerUsers(agent.id);
    expect(renewed).not.toBe(user);
  } finally {
    await store.end();
  }
}, 240_000);

test('of two agents with one id the running one stays, and the other is told why', async () => {
  const first = await (await newAgent().start()).untilOnline();
  const users = await brokerUsers(first.id);
  const second = newAgent(first.id);
  const { status, stdout, stderr } = await second.command('start', 'ep1', '--endpoint-uuid', first.id);
  expect(status).not.toBe(0);
  expect(stdout + stderr + second.log()).toMatch(/another agent of endpoint \S+ is running; stop that agent first/);
  expect(second.pid).toBeUndefined(); // so nothing of it can register later
  // The first one was not disturbed: it has the credentials it had, and works.
  expect(await brokerUsers(first.id)).toEqual(users);
  const { taskId } = await submitAdd(first.id);
  expect((await new Http().answer(taskId)).status).toBe('success');
}, 180_000);

test('tasks that die with a killed agent run again once it is back', async () => {
  const agent = await (await newAgent().start()).untilOnline();
  const http = new Http();
  const { stdout } = await runScript(
    sdk,
    `
def once(folder):
    import os, time
    if not os.path.exists(folder + "/began"):
        open(folder + "/began", "w").close()
        time.sleep(600)
    return "again"
print(fxc.run("${agent.dir}", endpoint_id="${agent.id}", function_id=fxc.register_function(once)))`,
  );
  await until('the task runs', () => (existsSync(`${agent.dir}/began`) ? true : undefined));
  await agent.kill();
  await agent.start();
  const answer = await http.answer(stdout.trim(), 120_000);
  expect({ status: answer.status, attempt: answer.attempt }).toEqual({ status: 'success', attempt: 2 });
}, 240_000);

test('what its serializer cannot read is refused at submit, with a sentence that says what to do', async () => {
  const agent = await newAgent().start();
  const http = new Http();
  const fn = await http.register('add', 'def add(a):\n    return a\n');
  const reply = await http.request('POST', `/v3/endpoints/${agent.id}/submit`, {
    create_queue: false,
    tasks: { [fn]: [packJsonArguments([1])] },
    user_runtime: {},
  });
  expect({ status: reply.status, message: reply.body.message }).toEqual({
    status: 422,
    message: expect.stringContaining('serialize code with DillCodeSource'),
  });
}, 120_000);

async function submitAdd(endpoint: string): Promise<{ taskId: string }> {
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
