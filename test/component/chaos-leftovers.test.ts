import { randomUUID } from 'node:crypto';

import type { Pool } from 'pg';

import { commandQueueName, groupBatchQueueName, QUEUE, tasksQueueName } from '../../contracts/names';
import { markDelivered, storeAnswers } from '../../platform/store/answers';
import { checkBroker, type BrokerExpectations } from '../chaos/check-broker';
import { findLeftovers } from '../chaos/check-store';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** The checker of chaos reports what is left over in the store, and on the broker. The store is real. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
let groupId: string;
let taskId: string;
beforeAll(async () => {
  postgres = await startScratchPostgres();
  fixture = await makeFixture(postgres.db);
  const submitted = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  groupId = submitted.groupId;
  taskId = submitted.taskIds[0]!; // one task, as asked for
  await claim(postgres.db, fixture);
  const answer = { taskId, state: 'succeeded', frame: frame(taskId), endpointQueueId: fixture.endpointId, attempt: 1 } as const;
  await storeAnswers(postgres.db, [answer]);
  await markDelivered(postgres.db, [taskId]);
  await postgres.db.query(`update submissions set state = 'done', finished_at = now()`);
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

/** Breaks the store in a transaction that is rolled back afterwards. */
async function whileBroken<T>(sql: string, use: (store: Pool) => Promise<T>): Promise<T> {
  const client = await postgres.db.connect();
  let previous: Promise<unknown> = Promise.resolve();
  const query = (text: string): Promise<unknown> => (previous = previous.then(() => client.query(text)));
  try {
    await client.query('begin');
    await client.query(sql);
    return await use({ query } as unknown as Pool);
  } finally {
    await client.query('rollback');
    client.release();
  }
}

describe('the store', () => {
  test('a submission that ended well leaves nothing over', async () => {
    expect(await findLeftovers(postgres.db)).toEqual([]);
  });

  test.each([
    ['no task is left open', `update tasks set state = 'delayed', answered_at = null`],
    ['no submission is left open', 'update submissions set finished_at = null'],
    ['no submission is left open', 'update submissions set open = 1'],
    ['an answered task has its result, and only an answered one', 'delete from results'],
    ['an answered task has its result, and only an answered one', 'update tasks set answered_at = null'],
    ['no answer is left undelivered', 'update tasks set delivered_at = null'],
    ['no place in a window is left taken', 'update endpoint_queues set in_flight = 1'],
    ['the answers of a task group are numbered without gaps', 'update task_groups set last_seq = last_seq + 1'],
    [
      'the answers of a task group are numbered without gaps',
      `update task_groups set last_seq = 2;
       insert into results (id, task_group_id, seq, attempt, frame)
         select overlay(id::text placing '00002' from 32)::uuid, task_group_id, seq, attempt, frame from results`,
    ],
    ['no message was put aside', `insert into dead_letters (queue, reason, body) values ('funcx.results', 'bad', '')`],
    ['no uploaded result is left over', `insert into uploads (id, attempt, body) values (gen_random_uuid(), 1, '')`],
  ])('the checker of chaos reports: %s (%s)', async (rule, sql) => {
    const found = await whileBroken(sql, findLeftovers);
    expect(found.map((violation) => violation.rule)).toContain(rule);
  });

  test('the checker of chaos reports a transaction that is left open', async () => {
    await whileBroken('select 1', async () => {
      const found = await until('it is reported', async () => (await findLeftovers(postgres.db))[0]);
      expect(found.rule).toBe('no transaction is left open');
    });
  }, 60_000);
});

describe('the broker', () => {
  const OWN_USER = 'funcx-admin';

  interface QueueRow {
    name: string;
    messages?: number;
    consumers?: number;
    arguments?: Record<string, unknown>;
  }
  interface Broker {
    queues: QueueRow[];
    users: string[];
    connections: string[];
    /** The tasks whose answers are in the queue of the group. */
    tasks: string[];
  }

  const groupQueue = (more: Partial<QueueRow> = {}): QueueRow => ({
    name: groupBatchQueueName(fixture.ownerId, groupId),
    arguments: { 'x-expires': 1 },
    ...more,
  });

  /** With a queue for everything that the store knows, and the connections of the service and of an agent. */
  async function rulesBroken(change: (broker: Broker) => void, more: Partial<BrokerExpectations> = {}): Promise<string[]> {
    const broker: Broker = {
      queues: [
        ...Object.values(QUEUE).map((name) => ({ name })),
        { name: tasksQueueName(fixture.endpointId) },
        { name: commandQueueName(fixture.endpointId) },
        groupQueue(),
      ],
      users: [OWN_USER],
      connections: [OWN_USER, `agent-${fixture.endpointId}-0123abcd`],
      tasks: [],
    };
    change(broker);
    const ask = async (path: string): Promise<unknown> => {
      if (path === 'queues/funcx') return broker.queues;
      if (path.startsWith('users')) return broker.users.map((name) => ({ name }));
      if (path === 'connections') return broker.connections.map((user) => ({ user }));
      return broker.tasks.map((id) => ({ payload: Buffer.from(frame(id)).toString('base64') }));
    };
    const expected: BrokerExpectations = {
      store: postgres.db,
      connections: new Map([
        [OWN_USER, 1],
        ['agent', 1],
      ]),
      abandonedGroups: new Set(),
      settledTasks: new Set(),
      ...more,
    };
    return (await checkBroker(expected, { ask, ownUser: OWN_USER })).map(({ rule }) => rule);
  }

  const replaceGroupQueue =
    (row: QueueRow, tasks: string[] = []) =>
    (broker: Broker): void => {
      broker.queues = [...broker.queues.slice(0, -1), row];
      broker.tasks = tasks;
    };

  test('the queues, users and connections that the store names are no leftovers', async () => {
    expect(await rulesBroken(() => undefined)).toEqual([]);
  });

  test('a queue of no endpoint, and a queue of a group that never expires, are reported by the checker of chaos', async () => {
    const rule = 'no queue is left over';
    expect(await rulesBroken(({ queues }) => queues.push({ name: tasksQueueName(randomUUID()) }))).toEqual([rule]);
    expect(await rulesBroken(replaceGroupQueue(groupQueue({ arguments: {} })))).toEqual([rule]);
  });

  test('a message that nobody will read is reported by the checker of chaos, and one that its reader has is not', async () => {
    const rule = 'no message is left over';
    expect(await rulesBroken(({ queues }) => (queues[0]!.messages = 1))).toEqual([rule]); // a queue of the service
    const unread = replaceGroupQueue(groupQueue({ messages: 1 }), [taskId]);
    expect(await rulesBroken(unread)).toEqual([rule]);
    expect(await rulesBroken(unread, { settledTasks: new Set([taskId]) })).toEqual([]);
    expect(await rulesBroken(unread, { abandonedGroups: new Set([groupId]) })).toEqual([]);
  });

  test('a consumer that stays at the queue of a group is reported by the checker of chaos', async () => {
    expect(await rulesBroken(replaceGroupQueue(groupQueue({ consumers: 1 })))).toEqual(['no consumer is left over']);
  });

  test('a broker user that the store does not name, or that was replaced, is reported by the checker of chaos', async () => {
    const rule = 'no broker user is left over';
    expect(await rulesBroken(({ users }) => users.push('agent-of-nobody'))).toEqual([rule]);
    const agents = ['agent-1', 'agent-2'];
    await postgres.db.query(
      `insert into broker_users (name, purpose, owner_id, endpoint_queue_id) select name, 'agent', $2, $3 from unnest($1::text[]) name`,
      [agents, fixture.ownerId, fixture.endpointId],
    );
    expect(await rulesBroken(({ users }) => users.push(...agents))).toEqual([rule]);
    await postgres.db.query('delete from broker_users where name = $1', [agents[0]]);
    expect(await rulesBroken(({ users }) => users.push(agents[1]!))).toEqual([]); // there are two
    await postgres.db.query('delete from broker_users');
  });

  test('a connection too many, or one too few, is reported by the checker of chaos', async () => {
    const rule = 'as many connections as before the first fault';
    expect(await rulesBroken(({ connections }) => connections.push(OWN_USER))).toEqual([rule]);
    expect(await rulesBroken(({ connections }) => connections.push('somebody'))).toEqual([rule]);
    expect(await rulesBroken(({ connections }) => connections.pop())).toEqual([rule]);
  });
});
