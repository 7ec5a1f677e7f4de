import { randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import type { ActivityDeps } from '../../activities';
import { deliverAndNudge, storeResults, type Stage } from '../../activities/complete';
import { deliver } from '../../activities/deliver';
import { PublishError, type Broker, type ConsumerOptions, type ReceivedMessage } from '../../broker';
import { decodeBatch, isBatch } from '../../contracts/batches';
import { decodeFrame } from '../../contracts/frames';
import { groupBatchQueueName, groupQueueName, resultKey } from '../../contracts/names';
import { listUndelivered, listUndeliveredGroups, storeAnswers } from '../../platform/store/answers';
import type { Database } from '../../platform/store/database';
import { addResultQueue } from '../../platform/store/tasks';
import { startResultLoop } from '../../workers/result-loop';
import { ResultsInHand } from '../../workers/results-in-hand';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';
import { claim, frame, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** Which answers are published to which queue of a task group, on the real database and with a publisher that records. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
let published: { queue: string; ids: string[] }[];
let refused: (queue: string) => boolean;
/** The broker returns messages for these queues: `gone` ones do not exist, the node of an `away` one is away. */
let returned: Map<string, 'gone' | 'away'>;
/** Publishes to these queues wait until they are confirmed here. */
let silent: Map<string, Promise<void>>;
/** Publishes to these queues reach their deadline. */
let late: Set<string>;
let unconfirmed: Set<string>;
let confirmedAtMs: number;
let nudged: string[];
let deps: ActivityDeps;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
  published = [];
  refused = () => false;
  returned = new Map();
  silent = new Map();
  late = new Set();
  unconfirmed = new Set();
  confirmedAtMs = 0;
  nudged = [];
  const publisher = {
    get confirmedAtMs() {
      return confirmedAtMs;
    },
    isUnconfirmed: (key: string) => [...unconfirmed].some((id) => key.startsWith(id)),
    publish: async (_exchange: string, queue: string, body: Uint8Array) => {
      if (refused(queue)) throw new PublishError('refused', 'the message broker refused the message');
      if (returned.has(queue)) throw new PublishError('returned', 'no queue accepts the message');
      if (late.has(queue)) throw new PublishError('timeout', 'the message broker sent no confirm');
      await silent.get(queue);
      published.push({ queue, ids: (isBatch(body) ? decodeBatch(body).map((part) => part.body) : [body]).map(taskIdOf) });
    },
  };
  deps = {
    db: postgres.db,
    log: { warn: () => undefined, debug: () => undefined },
    publisher,
    isQueueMissing: async (queue: string) => returned.get(queue) === 'gone',
    temporal: {
      nudge: async (workflowId: string) => {
        nudged.push(workflowId);
        return true;
      },
    },
  } as unknown as ActivityDeps;
});

function taskIdOf(body: Uint8Array): string {
  const decoded = decodeFrame(body);
  if (decoded.message_type !== 'result') throw new Error('not a result');
  return decoded.data.task_id;
}

/** Stores the answers; nothing is published yet. */
async function store(taskIds: readonly string[]): Promise<Stage> {
  await claim(postgres.db, fixture);
  const completed = await storeAnswers(
    postgres.db,
    taskIds.map((taskId) => ({
      taskId,
      state: 'succeeded',
      frame: frame(taskId),
      endpointQueueId: fixture.endpointId,
      attempt: 1,
    })),
  );
  const deliveries = completed.map(({ taskId, ownerId, taskGroupId, hasQueue, hasBatchQueue }, row) => ({
    row,
    taskId,
    ownerId: ownerId ?? '',
    taskGroupId: taskGroupId ?? '',
    frame: frame(taskId),
    hasQueue: hasQueue ?? false,
    hasBatchQueue: hasBatchQueue ?? false,
  }));
  return { completed, deliveries: deliveries.filter(({ hasQueue, hasBatchQueue }) => hasQueue || hasBatchQueue) };
}

async function answer(taskIds: readonly string[]): Promise<void> {
  await deliver(deps, (await store(taskIds)).deliveries);
}

async function undelivered(): Promise<string[]> {
  const groups = await listUndeliveredGroups(postgres.db, -1_000, 1_000);
  const own = groups.filter(({ ownerId }) => ownerId === fixture.ownerId).map(({ id }) => id);
  return (await listUndelivered(postgres.db, -1_000, own, 1_000, 1 << 23)).map(({ taskId }) => taskId);
}

/** A database that counts the statements that mark answers. */
function countingMarks(): { db: Database; marks: string[][] } {
  const marks: string[][] = [];
  const query = (statement: { name?: string; values?: unknown[] }, ...rest: unknown[]): unknown => {
    if (statement.name === 'mark-delivered') marks.push((statement.values ?? [])[0] as string[]);
    return (postgres.db.query as (...args: unknown[]) => unknown)(statement, ...rest);
  };
  return { db: new Proxy(postgres.db, { get: (db, key) => (key === 'query' ? query : Reflect.get(db, key)) as unknown }), marks };
}

const queues = (groupId: string): { single: string; batches: string } => ({
  single: groupQueueName(fixture.ownerId, groupId),
  batches: groupBatchQueueName(fixture.ownerId, groupId),
});

test('the answers of a batch queue travel together, and those of the other queue alone', async () => {
  const [batched, single, none] = [
    await submit(postgres.db, fixture, 100, { queue: 'batches' }),
    await submit(postgres.db, fixture, 2, { queue: 'single' }),
    await submit(postgres.db, fixture, 1, { queue: 'none' }),
  ];
  await answer([...batched.taskIds, ...single.taskIds, ...none.taskIds]);
  const ofBatches = published.filter(({ queue }) => queue === queues(batched.groupId).batches);
  expect(ofBatches.map(({ ids }) => ids.length)).toEqual([64, 36]);
  expect(ofBatches.flatMap(({ ids }) => ids)).toEqual(batched.taskIds);
  const others = published.filter(({ queue }) => queue !== queues(batched.groupId).batches);
  expect(others).toEqual(single.taskIds.map((id) => ({ queue: queues(single.groupId).single, ids: [id] })));
  expect(await undelivered()).toEqual([]);
});

test('a group whose requests want both queues gets every answer in both', async () => {
  const groupId = randomUUID();
  const first = await submit(postgres.db, fixture, 2, { queue: 'batches', groupId });
  const second = await submit(postgres.db, fixture, 1, { queue: 'single', groupId });
  const ids = [...first.taskIds, ...second.taskIds];
  await answer(ids);
  const idsIn = (queue: string): string[] => published.filter((one) => one.queue === queue).flatMap((one) => one.ids);
  expect(idsIn(queues(groupId).batches)).toEqual(ids);
  expect(idsIn(queues(groupId).single)).toEqual(ids);
});

test('a queue that is added later gets the answers from then on', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 2, { queue: 'batches' });
  await answer(taskIds.slice(0, 1));
  await addResultQueue(postgres.db, groupId, 'single');
  await answer(taskIds.slice(1));
  const { single, batches } = queues(groupId);
  expect(published).toEqual([
    { queue: batches, ids: taskIds.slice(0, 1) },
    { queue: single, ids: taskIds.slice(1) },
    { queue: batches, ids: taskIds.slice(1) },
  ]);
});

test('results of one group that two processes store at the same time get different places in it', async () => {
  const groupId = randomUUID();
  const other = { ...fixture, endpointId: (await makeFixture(postgres.db)).endpointId };
  const first = await submit(postgres.db, fixture, 1, { groupId, queue: 'single' });
  const second = await submit(postgres.db, other, 1, { groupId, queue: 'single' });
  await claim(postgres.db, fixture);
  await claim(postgres.db, other);
  const resultOf = ({ endpointId }: StoreFixture, taskId = ''): Parameters<typeof storeAnswers>[1] => [
    { taskId, state: 'succeeded', frame: frame(taskId), endpointQueueId: endpointId, attempt: 1 },
  ];
  const holder = await postgres.db.connect();
  const { rows: mine } = await holder.query<{ pid: number }>('select pg_backend_pid() as pid');
  await holder.query('begin');
  await storeAnswers(holder as unknown as typeof postgres.db, resultOf(fixture, first.taskIds[0]));
  const storing = storeAnswers(postgres.db, resultOf(other, second.taskIds[0]));
  await until('the other process waits', async () => {
    const { rows } = await postgres.db.query('select 1 from pg_stat_activity where $1 = any (pg_blocking_pids(pid))', [
      mine[0]?.pid,
    ]);
    return rows.length > 0;
  });
  await holder.query('commit');
  holder.release();
  await storing;
  const { rows } = await postgres.db.query<{ seq: string }>('select seq from results where task_group_id = $1 order by seq', [
    groupId,
  ]);
  expect(rows.map(({ seq }) => Number(seq))).toEqual([1, 2]);
});

test('an answer that one of two queues refuses stays undelivered, and other answers are marked', async () => {
  const groupId = randomUUID();
  const both = await submit(postgres.db, fixture, 1, { queue: 'batches', groupId });
  await addResultQueue(postgres.db, groupId, 'single');
  const other = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  refused = (queue) => queue === queues(groupId).single;
  await answer([...both.taskIds, ...other.taskIds]);
  expect(await undelivered()).toEqual(both.taskIds);
});

test('a queue that sends no confirm keeps no answer of another queue from being marked and acknowledged', async () => {
  const sick = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  const healthy = await submit(postgres.db, fixture, 100, { queue: 'single' });
  const none = await submit(postgres.db, fixture, 1, { queue: 'none' });
  const stage = await store([...sick.taskIds, ...healthy.taskIds, ...none.taskIds]);
  const { db, marks } = countingMarks();
  let confirm: () => void = () => undefined;
  silent.set(queues(sick.groupId).batches, new Promise((resolve) => (confirm = resolve)));
  const settled: number[] = [];
  const delivering = deliverAndNudge({ ...deps, db }, stage, async (rows) => void settled.push(...rows));

  await until('the other results may be acknowledged', () => settled.length === 101, { deadlineMs: 5_000 });
  expect(settled).not.toContain(0);
  expect(await undelivered()).toEqual(sick.taskIds);
  expect(marks.map((ids) => ids.length)).toEqual([100]); // one statement, not one for each answer
  expect(nudged).toHaveLength(2);

  confirm();
  await delivering;
  expect(settled.at(-1)).toBe(0);
  expect(await undelivered()).toEqual([]);
  expect(nudged).toHaveLength(3);
});

test('answers that are confirmed together are marked with one statement', async () => {
  const groups = [
    await submit(postgres.db, fixture, 50, { queue: 'batches' }),
    await submit(postgres.db, fixture, 50, { queue: 'single' }),
  ];
  const { db, marks } = countingMarks();
  await deliverAndNudge({ ...deps, db }, await store(groups.flatMap(({ taskIds }) => taskIds)));
  expect(marks.map((ids) => ids.length)).toEqual([100]);
});

test('while a queue refuses answers, results are no longer published to it, and only the sweep tries', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 4, { queue: 'single' });
  let tries = 0;
  refused = (queue) => queue === queues(groupId).single && ++tries > 0;
  await deliverAndNudge(deps, await store(taskIds.slice(0, 1)));
  await deliverAndNudge(deps, await store(taskIds.slice(1, 2)));
  expect(tries).toBe(1);

  const waiting = await store(taskIds.slice(2, 3));
  await deliver(deps, waiting.deliveries);
  expect(tries).toBe(2);
  refused = () => false;
  await deliver(deps, waiting.deliveries);
  await deliverAndNudge(deps, await store(taskIds.slice(3)));
  expect(published.map(({ ids }) => ids)).toEqual([[taskIds[2]], [taskIds[3]]]);
  expect((await undelivered()).sort()).toEqual(taskIds.slice(0, 2));
});

test('while one of two queues of a group refuses an answer, its tries publish nothing to the other queue', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  await addResultQueue(postgres.db, groupId, 'single');
  const { single, batches } = queues(groupId);
  refused = (queue) => queue === single;
  const { deliveries } = await store(taskIds);
  for (let tries = 0; tries < 3; tries++) await deliver(deps, deliveries);
  expect(published).toEqual([{ queue: batches, ids: taskIds }]);
  refused = () => false;
  await deliver(deps, deliveries);
  expect(published.slice(1)).toEqual([
    { queue: single, ids: taskIds },
    { queue: batches, ids: taskIds },
  ]);
  expect(await undelivered()).toEqual([]);
});

test.each([
  ['counts as refusing while the broker confirms others', () => Date.now(), 1],
  ['does not count as refusing while the broker confirms nothing', () => Date.now() - 10_000, 2],
])('a queue that confirms nothing %s', async (_what, confirmedAt, publishes) => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 2, { queue: 'single' });
  late.add(queues(groupId).single);
  confirmedAtMs = confirmedAt();
  let tries = 0;
  refused = () => ++tries < 0;
  await deliverAndNudge(deps, await store(taskIds.slice(0, 1)));
  await deliverAndNudge(deps, await store(taskIds.slice(1)));
  expect(tries).toBe(publishes);
});

test('a queue that confirms none of many writes counts as refusing before their deadline, while others are confirmed', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 100, { queue: 'single' });
  confirmedAtMs = Number.MAX_SAFE_INTEGER;
  let confirm: () => void = () => undefined;
  silent.set(queues(groupId).single, new Promise((resolve) => (confirm = resolve)));
  const waiting = [deliverAndNudge(deps, await store(taskIds.slice(0, 50)))];
  let settled = 0;
  const left = taskIds.slice(50);
  await until(
    'a further result does not wait',
    async () => {
      waiting.push(deliverAndNudge(deps, await store(left.splice(0, 1)), async (rows) => void (settled += rows.length)));
      return settled > 0;
    },
    { deadlineMs: 8_000 },
  );
  confirm();
  await Promise.all(waiting);
  expect(published.length).toBeGreaterThanOrEqual(50);
});

test('a batch of undelivered answers is bounded in bytes, but never empty, and starts with the oldest of each group', async () => {
  const groups = [
    await submit(postgres.db, fixture, 3, { queue: 'single' }),
    await submit(postgres.db, fixture, 3, { queue: 'single' }),
  ];
  await store(groups.flatMap(({ taskIds }) => taskIds));
  const ids = groups.map(({ groupId }) => groupId);
  const bytes = frame(groups[0]!.taskIds[0]!).length; // the test made them
  const list = async (maxBytes: number): Promise<string[]> =>
    (await listUndelivered(postgres.db, -1_000, ids, 3, maxBytes)).map(({ taskGroupId }) => taskGroupId);
  expect(await list(1)).toHaveLength(1);
  expect((await list(2 * bytes)).sort()).toEqual([...ids].sort());
  expect(await list(5 * bytes)).toHaveLength(5);
  expect(await list(1 << 23)).toHaveLength(6);
});

test('a result leaves the memory when it is acknowledged, although another answer of its batch is not confirmed', async () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const first = await submit(postgres.db, fixture, 1, { queue: 'none' });
  const sick = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  const healthy = await submit(postgres.db, fixture, 20, { queue: 'single' });
  await claim(postgres.db, fixture);
  let confirm: () => void = () => undefined;
  silent.set(queues(sick.groupId).batches, new Promise((resolve) => (confirm = resolve)));
  const config = { FUNCX_MAX_BODY_CHARS: 1_000_000, FUNCX_MAX_MESSAGE_BYTES: 1_000_000, FUNCX_MAX_INFRASTRUCTURE_RETRIES: 3 };
  let receive: ConsumerOptions['onMessage'] = () => undefined;
  const broker = {
    consume: async ({ onMessage }: ConsumerOptions) => {
      receive = onMessage;
      return { pause: async () => undefined, close: async () => undefined };
    },
  } as unknown as Broker;
  const loop = await startResultLoop(broker, { ...deps, config } as unknown as ActivityDeps, async () => undefined, {
    guard: { drops: () => false, note: () => undefined },
    inHand: new ResultsInHand(),
  });
  const acknowledged = new Set<string>();
  function send(taskId: string): WeakRef<Buffer> {
    const body = Buffer.from(frame(taskId));
    const message: ReceivedMessage = {
      body,
      routingKey: resultKey(fixture.endpointId),
      headers: { 'funcx-attempt': 1 },
      ack: () => void acknowledged.add(taskId),
      nack: () => undefined,
    };
    void receive(message);
    return new WeakRef(body);
  }
  // The first result is a batch of its own; the others come while it is stored.
  const [, unconfirmedBody, ...bodies] = [...first.taskIds, ...sick.taskIds, ...healthy.taskIds].map(send);
  await until('the confirmed results are acknowledged', () => acknowledged.size === 21);
  await until(
    'they have left the memory',
    () => {
      collectGarbage();
      return bodies.every((body) => body.deref() === undefined);
    },
    { deadlineMs: 5_000 },
  );
  expect(acknowledged).not.toContain(sick.taskIds[0]);
  expect(unconfirmedBody?.deref()).toBeDefined();
  confirm();
  await until('all are acknowledged', () => acknowledged.size === 22);
  await loop.close();
});

test('an answer for a queue that expired counts as delivered, and one for a queue whose node is away does not', async () => {
  const gone = await submit(postgres.db, fixture, 1, { queue: 'single' });
  const away = await submit(postgres.db, fixture, 1, { queue: 'single' });
  returned.set(queues(gone.groupId).single, 'gone').set(queues(away.groupId).single, 'away');
  await answer([...gone.taskIds, ...away.taskIds]);
  expect(await undelivered()).toEqual(away.taskIds);
});

test('an answer whose write is unconfirmed is not written again inside another batch', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 3, { queue: 'batches' });
  unconfirmed.add(taskIds[1] ?? '');
  await answer(taskIds);
  const queue = queues(groupId).batches;
  // The publisher waits for the earlier write of the second answer.
  expect(published).toEqual([
    { queue, ids: [taskIds[1]] },
    { queue, ids: [taskIds[0], taskIds[2]] },
  ]);
});

test('a result of an agent reaches the batch queue of its group byte for byte', async () => {
  const { groupId, taskIds } = await submit(postgres.db, fixture, 2, { queue: 'batches' });
  await claim(postgres.db, fixture);
  const results = taskIds.map((id) => {
    const body = Buffer.from(frame(id));
    const decoded = decodeFrame(body);
    if (decoded.message_type !== 'result') throw new Error('not a result');
    return { data: decoded.data, body };
  });
  const config = { FUNCX_MAX_BODY_CHARS: 1_000_000, FUNCX_MAX_MESSAGE_BYTES: 1_000_000, FUNCX_MAX_INFRASTRUCTURE_RETRIES: 3 };
  const full = { ...deps, config } as unknown as ActivityDeps;
  const stage = await storeResults(
    full,
    results.map(({ data, body }) => ({
      endpointQueueId: fixture.endpointId,
      data,
      body,
      attempt: 1,
      isStored: false,
      exitCode: undefined,
      capacity: undefined,
    })),
  );
  await deliverAndNudge(full, stage);
  expect(published).toEqual([{ queue: queues(groupId).batches, ids: taskIds }]);
  expect(await undelivered()).toEqual([]);
});
