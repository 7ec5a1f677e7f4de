import { connect } from 'amqplib';

import { EXCHANGE, QUEUE, resultKey, tasksQueueName } from '../../contracts/names';
import { Agent, funcx, Http, serviceEnv } from '../helpers/system';
import { until } from '../helpers/until';

/** What is broken must neither block others nor vanish. */

const http = new Http();
const agent = new Agent('poison', { FUNCX_WORKERS: '1' });
beforeAll(() => agent.start());
afterAll(() => agent.stop());

interface Letter {
  id: number;
  queue: string;
  reason: string;
  routing_key: string;
}
const letters = (): Letter[] =>
  (JSON.parse(funcx(['dead-letters', 'list', '--json']).stdout) as { dead_letters: Letter[] }).dead_letters;

async function publish(exchange: string, key: string, body: Buffer, headers: object = {}): Promise<void> {
  const model = await connect(serviceEnv('api').AMQP_URL ?? '');
  const channel = await model.createConfirmChannel();
  channel.publish(exchange, key, body, { headers, persistent: true });
  await channel.waitForConfirms();
  await model.close();
}

test('a task that kills its worker each time fails with WorkerLost, and others are not held up', async () => {
  const poison = await http.register('poison', 'def poison():\n    import os\n    os._exit(13)');
  const fine = await http.register('fine', 'def fine(x):\n    return x');
  const bad = await http.submit(agent.id, poison, [[]]);
  const good = await http.submit(agent.id, fine, [[1], [2]]);
  expect(await http.value(good.taskIds[1] ?? '')).toBe(2);
  const answer = await http.answer(bad.taskIds[0] ?? '');
  expect(answer).toMatchObject({ state: 'failed', error_code: 'WorkerLost', attempt: 4 });
  expect(await http.value(await http.submitOne(agent.id, fine, [3]))).toBe(3);
});

test('a malformed result is put aside with its reason; it can be shown, replayed and dropped', async () => {
  const key = resultKey(agent.id);
  await publish(EXCHANGE.results, key, Buffer.from('\x01{"message_type": "nonsense"}'));
  const find = (): Letter | undefined => letters().find((one) => one.queue === QUEUE.results && one.routing_key === key);
  const first = await until('the dead letter is listed', find);
  expect(first.reason).toContain('malformed frame');

  const shown = funcx(['dead-letters', 'show', String(first.id)]);
  expect(shown.stdout).toContain('nonsense');
  expect(funcx(['dead-letters', 'replay', String(first.id)]).stdout).toContain(QUEUE.results);
  const again = await until('it comes again', () => letters().find((one) => one.routing_key === key && one.id !== first.id));
  expect(letters().some((one) => one.id === first.id)).toBe(false);

  expect(funcx(['dead-letters', 'drop', String(again.id)]).status).toBe(0);
  const gone = funcx(['dead-letters', 'show', String(again.id)]);
  expect(gone.status).toBe(1);
  expect(gone.stderr).toContain(`dead letter ${again.id} does not exist`);
});

test('a result whose values the store cannot take is put aside, and the results behind it are stored', async () => {
  const fine = await http.register('fine', 'def fine(x):\n    return x');
  await publish(EXCHANGE.results, 'not-an-id.results', Buffer.from('\x01{"message_type": "result"}'));
  const frame = { message_type: 'result', data: { task_id: '01a20d0e-44fc-8a94-89f5-f7be3a500001', data: '' } };
  const body = Buffer.concat([Buffer.from([1]), Buffer.from(JSON.stringify(frame))]);
  await publish(EXCHANGE.results, 'not-an-id.results', body);
  await publish(EXCHANGE.results, resultKey(agent.id), body, { 'funcx-attempt': 5_000_000_000 });
  expect(await http.value(await http.submitOne(agent.id, fine, [7]))).toBe(7);
  await until('all three are listed', () => letters().filter((one) => one.queue === QUEUE.results).length >= 3);
});

test('a task message that the agent cannot read is refused by it and listed with the reason', async () => {
  await publish('', tasksQueueName(agent.id), Buffer.from('not a frame'), { task_uuid: 'x' });
  const letter = await until('it is listed', () => letters().find((one) => one.queue === tasksQueueName(agent.id)));
  expect(letter.reason).toContain('rejected');
});
