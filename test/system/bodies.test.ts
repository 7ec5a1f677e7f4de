import { packJsonArguments } from '../../contracts/packing';
import { Http, localEndpoint, openStore } from '../helpers/system';
import { until } from '../helpers/until';

/** Bodies: large ones take the way over HTTP, those over the limit are refused where they are met. */

const http = new Http();
const LIMIT = 10_485_760;

test('arguments and a result of 3 MB travel as claim checks, and nothing of them is left behind', async () => {
  const echo = await http.register('echo', 'def echo(x):\n    return x + "!"');
  const text = 'ä'.repeat(1_500_000);
  const taskId = await http.submitOne(localEndpoint(), echo, [text]);
  expect(await http.value(taskId)).toBe(`${text}!`);
  const store = openStore();
  await until('the upload is removed', async () => {
    const { rows } = await store.query('select 1 from uploads where id = $1', [taskId]);
    return rows.length === 0;
  });
  await store.end();
});

test('a payload over the limit is refused before anything is accepted', async () => {
  const echo = await http.register('echo', 'def echo(x):\n    return x');
  const reply = await http.request('POST', `/v3/endpoints/${localEndpoint()}/submit`, {
    tasks: { [echo]: [packJsonArguments([1]), packJsonArguments(['x'.repeat(LIMIT)])] },
  });
  expect(reply.status).toBe(413);
  expect(JSON.stringify(reply.body)).toContain('PAYLOAD_TOO_LARGE');
});

test('a result over the limit is a failed answer that says so', async () => {
  const grow = await http.register('grow', 'def grow(n):\n    return "x" * n');
  const taskId = await http.submitOne(localEndpoint(), grow, [LIMIT + 1]);
  const answer = await http.answer(taskId);
  expect(answer).toMatchObject({ state: 'failed', error_code: 'MaxResultSizeExceeded' });
});
