import { randomUUID } from 'node:crypto';

import { packJsonArguments } from '../../contracts/packing';
import { ownApi, type OwnApi } from '../helpers/own-api';
import { Agent, funcx, Http, type Credentials, type Reply } from '../helpers/system';
import { until } from '../helpers/until';

/** One owner cannot fill the store of everybody. */

const LIMIT = 5;

describe('an owner with as many open tasks as may be', () => {
  const agent = new Agent('limited', { FUNCX_ENDPOINT_PUBLIC: '1' });
  const name = `greedy-${Date.now().toString(36)}`;
  let api: OwnApi;
  let greedy: Http;
  let functionId: string;

  beforeAll(async () => {
    api = await ownApi({ FUNCX_MAX_OPEN_TASKS: String(LIMIT) });
    greedy = new Http(JSON.parse(funcx(['identity', 'create', name, '--json']).stdout) as Credentials);
    await agent.start();
    await agent.stop();
    await agent.untilOffline();
    functionId = await greedy.register('one', 'def one():\n    return 1\n');
  });
  afterAll(() => api.close());

  async function submit(who: Http, count: number, key: string = randomUUID()): Promise<Reply> {
    const response = await fetch(`${api.url}/v3/endpoints/${agent.id}/submit`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await who.token()}`,
        'content-type': 'application/json',
        'idempotency-key': key,
      },
      body: JSON.stringify({
        create_queue: false,
        tasks: { [functionId]: Array.from({ length: count }, () => packJsonArguments([])) },
        user_runtime: {},
      }),
    });
    return { status: response.status, body: (await response.json()) as Reply['body'], headers: response.headers };
  }

  test('is refused more with 429 LIMIT_EXCEEDED, still gets the answer of a repeat, and goes on once some are answered', async () => {
    const key = randomUUID();
    const first = await submit(greedy, LIMIT, key);
    expect(first.status).toBe(200);
    const refused = await submit(greedy, 1);
    expect(refused).toMatchObject({ status: 429, body: { code: 'LIMIT_EXCEEDED' } });
    expect(refused.body.message).toBe(
      `You have ${LIMIT} open tasks, and 1 more would be over the limit of ${LIMIT}. Wait until some have their answers, or cancel them.`,
    );
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);

    expect((await submit(greedy, LIMIT, key)).body).toEqual(first.body);

    await greedy.ok('POST', `/v1/taskgroups/${first.body.task_group_id as string}/cancel`);
    await until('a submit is accepted again', async () => ((await submit(greedy, 1)).status === 200 ? true : undefined));
  });

  test('does not keep others from submitting', async () => {
    await submit(greedy, LIMIT);
    const other = new Http(JSON.parse(funcx(['identity', 'create', `${name}-other`, '--json']).stdout) as Credentials);
    functionId = await other.register('one', 'def one():\n    return 1\n');
    expect((await submit(other, 1)).status).toBe(200);
  });
});
