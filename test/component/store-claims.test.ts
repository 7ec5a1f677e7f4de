import { randomUUID } from 'node:crypto';

import { maxTaskIdOf } from '../../contracts/ids';
import { storeAnswers } from '../../platform/store/answers';
import {
  askForPump,
  claimTasks,
  finishClaim,
  holdClaim,
  keepPumping,
  parkPump,
  takeOverClaim,
} from '../../platform/store/claims';
import { saveAgent } from '../../platform/store/endpoints';
import { listQueuesWithoutPump, listSuspects, noteMissing, recordHeartbeat } from '../../platform/store/presence';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, inFlight, makeFixture, makeOwner, stateOf, submit, type StoreFixture } from '../helpers/store-fixture';

/** Dispatch is a claim: whose turn it is, how often, and what becomes of a claim whose process died. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const answer = (fixture: StoreFixture, id: string): Promise<unknown> =>
  storeAnswers(postgres.db, [
    { taskId: id, endpointQueueId: fixture.endpointId, attempt: 1, state: 'succeeded', frame: frame(id) },
  ]);

test('with one free place at a time, owners take turns, however old the tasks of one are', async () => {
  const fixture = await makeFixture(postgres.db, { window: 1 });
  const large = await submit(postgres.db, fixture, 10, { nowMs: Date.now() - 1_000 });
  const other = await submit(postgres.db, fixture, 2, { ownerId: await makeOwner(postgres.db) });
  const served: string[] = [];
  for (let turn = 0; turn < 4; turn++) {
    const [task] = await claim(postgres.db, fixture);
    served.push(large.taskIds.includes(task?.id ?? '') ? 'large' : 'other');
    await answer(fixture, task?.id ?? '');
  }
  expect(served.filter((who) => who === 'other')).toHaveLength(2);
  expect(other.taskIds).toHaveLength(2);
});

test('a claim never exceeds the window, and a claim that is repeated returns the same unanswered tasks', async () => {
  const fixture = await makeFixture(postgres.db, { window: 3 });
  await submit(postgres.db, fixture, 10);
  const first = await claim(postgres.db, fixture, 'once');
  expect(first).toHaveLength(3);
  expect(await claim(postgres.db, fixture, 'another')).toEqual([]);
  expect((await claim(postgres.db, fixture, 'once')).map((task) => task.id)).toEqual(first.map((task) => task.id));
  await answer(fixture, first[0]?.id ?? '');
  expect((await claim(postgres.db, fixture, 'once')).map((task) => task.id)).toEqual(first.slice(1).map((task) => task.id));
  expect(await inFlight(postgres.db, fixture)).toEqual({ counted: 2, found: 2 });
});

test('a claim that is limited to a submission takes only its tasks, and none while others wait for their turn', async () => {
  const fixture = await makeFixture(postgres.db, { window: 10 });
  const { endpointId, ownerId } = fixture;
  const own = await submit(postgres.db, fixture, 2, { nowMs: Date.now() - 1_000 });
  const claimOwn = async (claimId: string): Promise<string[]> => {
    const only = { fromId: own.submissionId, toId: maxTaskIdOf(own.submissionId) };
    const claimed = await claimTasks(postgres.db, endpointId, claimId, { tasks: 5, bytes: 1e6, inlineBytes: 1e6, only });
    return claimed.map(({ id }) => id);
  };
  const other = await submit(postgres.db, fixture, 1, { ownerId });
  expect(await claimOwn('own/1')).toEqual([]);
  await claim(postgres.db, fixture, 'own/1');
  expect(await claimOwn('own/1')).toEqual([...own.taskIds, ...other.taskIds]); // what this claim has already
  expect(await claimOwn('own/2')).toEqual([]);

  await postgres.db.query(`update tasks set state = 'waiting' where id = any ($1)`, [own.taskIds]);
  expect(await claimOwn('own/2')).toEqual(own.taskIds);
});

test('the window holds half of what the agent could do in its time, however few answers came meanwhile', async () => {
  const fixture = await makeFixture(postgres.db, { window: 10 });
  const { endpointId: endpointQueueId } = fixture;
  await postgres.db.query('update endpoint_queues set window_span_s = 0.1 where id = $1', [endpointQueueId]);
  await submit(postgres.db, fixture, 100);
  const tasks = (await claim(postgres.db, fixture)).map(({ id }) => id);
  const windowAfter = async (capacity: number | undefined): Promise<number> => {
    await postgres.db.query(`update endpoint_queues set span_started_at = now() - interval '1 minute' where id = $1`, [
      endpointQueueId,
    ]);
    const id = tasks.shift() ?? '';
    await storeAnswers(postgres.db, [
      { taskId: id, endpointQueueId, attempt: 1, state: 'succeeded', frame: frame(id), capacity },
    ]);
    const { rows } = await postgres.db.query<{ window: number }>(
      'select window_size as window from endpoint_queues where id = $1',
      [endpointQueueId],
    );
    return rows[0]!.window; // the fixture made it
  };
  expect(await windowAfter(undefined)).toBe(11); // an agent that does not tell: 10, and the work of 0.1 s at one task a minute
  expect(await windowAfter(2_000)).toBe(110);
  expect(await windowAfter(2)).toBe(11);
  expect(await windowAfter(1e12)).toBe(50_000);
});

test('what an agent announced holds for that incarnation only', async () => {
  const fixture = await makeFixture(postgres.db, { window: 1_000 });
  await submit(postgres.db, fixture, 1);
  const claimed = async (): Promise<unknown> => {
    const [task] = await claim(postgres.db, fixture, 'once');
    return [task?.capabilities, task?.rate];
  };
  const set = (columns: string): Promise<unknown> =>
    postgres.db.query(`update endpoint_queues set ${columns} where id = $1`, [fixture.endpointId]);
  expect(await claimed()).toEqual([[], 0]);
  await set(`rate = 400, incarnation = 'new', capable_incarnation = 'new', capabilities = '{batches,other}'`);
  expect(await claimed()).toEqual([['batches', 'other'], 400]);
  // An agent of an earlier version, registered by an `api` of an earlier version.
  await set(`capabilities = '{batches}', incarnation = 'old'`);
  expect(await claimed()).toEqual([[], 400]);
});

test('an offline endpoint is sent nothing', async () => {
  const fixture = await makeFixture(postgres.db, { isOnline: false });
  await submit(postgres.db, fixture, 3);
  expect(await claim(postgres.db, fixture)).toEqual([]);
});

test('of many who find tasks waiting, one calls the pump', async () => {
  const fixture = await makeFixture(postgres.db, { window: 1 });
  await submit(postgres.db, fixture, 3);
  const asked = await Promise.all(Array.from({ length: 8 }, () => askForPump(postgres.db, fixture.endpointId)));
  expect(asked.filter(Boolean)).toHaveLength(1);
});

describe('a claim of a pump that is not known to be published', () => {
  const [first, second, third] = ['pump/run/1/1', 'pump/run/1/2', 'pump/run/1/3'] as const;
  const takeOver = (fixture: StoreFixture, claimId: string, silentMs = 0): Promise<string> =>
    takeOverClaim(postgres.db, fixture.endpointId, claimId, silentMs);

  test('is taken over by the next pump, for every pump that died', async () => {
    const fixture = await makeFixture(postgres.db, { window: 4 });
    const { taskIds } = await submit(postgres.db, fixture, 8);
    await claim(postgres.db, fixture, `${first}/0`);
    await postgres.db.query('update endpoint_queues set window_size = 8 where id = $1', [fixture.endpointId]);
    await claim(postgres.db, fixture, `${second}/0`);
    await answer(fixture, taskIds[0]!);
    expect(await takeOver(fixture, `${third}/0`)).toBe('taken');
    expect((await claim(postgres.db, fixture, `${third}/0`)).map(({ id }) => id)).toEqual(taskIds.slice(1, 4));
    expect(await takeOver(fixture, `${third}/1`)).toBe('taken');
    expect((await claim(postgres.db, fixture, `${third}/1`)).map(({ id }) => id)).toEqual(taskIds.slice(4));
    expect(await takeOver(fixture, `${third}/2`)).toBe('none');
  });

  test('keeps another pump from ending, until its own pump has published it', async () => {
    const fixture = await makeFixture(postgres.db, { window: 3 });
    await submit(postgres.db, fixture, 3);
    await claim(postgres.db, fixture, `${first}/0`);
    expect(await keepPumping(postgres.db, fixture.endpointId, second)).toBe(true);
    expect(await parkPump(postgres.db, fixture.endpointId, second, 0)).toBe(false);
    expect(await keepPumping(postgres.db, fixture.endpointId, first)).toBe(false);
    expect(await takeOver(fixture, `${second}/0`)).toBe('none');
  });

  test('is left alone while its pump renews it, and is no longer held once it was taken over', async () => {
    const fixture = await makeFixture(postgres.db);
    await submit(postgres.db, fixture, 3);
    await claim(postgres.db, fixture, `${first}/0`);
    expect(await takeOver(fixture, `${second}/0`, 60_000)).toBe('pending');
    await postgres.db.query(
      `update endpoint_queues set pump_claims = jsonb_set(pump_claims, '{${first},at}', to_jsonb(now() - interval '2 minutes'))
        where id = $1`,
      [fixture.endpointId],
    );
    expect(await holdClaim(postgres.db, fixture.endpointId, `${first}/0`)).toBe(true);
    expect(await takeOver(fixture, `${second}/0`, 60_000)).toBe('pending');
    expect(await takeOver(fixture, `${second}/0`)).toBe('taken');
    expect(await holdClaim(postgres.db, fixture.endpointId, `${first}/0`)).toBe(false);
    expect(await claim(postgres.db, fixture, `${first}/0`)).toEqual([]);
  });

  test('is where a pump of the earlier version looks for it', async () => {
    const fixture = await makeFixture(postgres.db);
    const { taskIds } = await submit(postgres.db, fixture, 3);
    const read = async (): Promise<string | null> => {
      const text = 'select pump_claim as claim from endpoint_queues where id = $1';
      return (await postgres.db.query<{ claim: string | null }>(text, [fixture.endpointId])).rows[0]!.claim; // the fixture made it
    };
    await claim(postgres.db, fixture, `${first}/0`);
    expect(await read()).toBe(`${first}/0`);
    expect((await claim(postgres.db, fixture, `${first}/0`)).map(({ id }) => id)).toEqual(taskIds);
    await takeOver(fixture, `${second}/0`);
    expect(await read()).toBe(`${second}/0`);
    expect((await claim(postgres.db, fixture, `${second}/0`)).map(({ id }) => id)).toEqual(taskIds);
    await keepPumping(postgres.db, fixture.endpointId, second);
    expect(await read()).toBeNull();
  });

  test('is forgotten once it is published', async () => {
    const fixture = await makeFixture(postgres.db);
    await submit(postgres.db, fixture, 3);
    await claim(postgres.db, fixture, `${first}/0`);
    await finishClaim(postgres.db, fixture.endpointId, first);
    expect(await takeOver(fixture, `${second}/0`)).toBe('none');
  });
});

test('a pump may leave a window that stays full, and is asked for when a place is free', async () => {
  const fixture = await makeFixture(postgres.db, { window: 1 });
  const { taskIds } = await submit(postgres.db, fixture, 3);
  const isAskedFor = async (): Promise<boolean> =>
    (await listQueuesWithoutPump(postgres.db)).some(({ endpointQueueId }) => endpointQueueId === fixture.endpointId);
  expect(await askForPump(postgres.db, fixture.endpointId)).toBe(true);
  expect(await parkPump(postgres.db, fixture.endpointId, 'pump/run/1/1', 0)).toBe(false); // there is a place
  await claim(postgres.db, fixture);
  expect(await parkPump(postgres.db, fixture.endpointId, 'pump/run/1/1', 60_000)).toBe(false); // it has just sent
  expect(await parkPump(postgres.db, fixture.endpointId, 'pump/run/1/1', 0)).toBe(true);
  expect(await isAskedFor()).toBe(false);
  await answer(fixture, taskIds[0]!);
  expect(await isAskedFor()).toBe(true);
  expect(await isAskedFor()).toBe(false); // once
});

test('a submit into a group does not stand in the way of results of the same group', async () => {
  const fixture = await makeFixture(postgres.db);
  const groupId = randomUUID();
  const { taskIds } = await submit(postgres.db, fixture, 50, { groupId });
  await claim(postgres.db, fixture);
  await Promise.all([
    ...taskIds.map((id) => answer(fixture, id)),
    ...Array.from({ length: 50 }, () => submit(postgres.db, fixture, 2, { groupId })),
  ]);
  const { rows } = await postgres.db.query<{ n: number; last: number }>(
    'select count(*)::integer as n, max(seq)::integer as last from results where task_group_id = $1',
    [groupId],
  );
  expect(rows).toEqual([{ n: 50, last: 50 }]);
});

test('an attempt that one heartbeat misses and the next one names is not missing', async () => {
  const fixture = await makeFixture(postgres.db);
  const {
    taskIds: [id = ''],
  } = await submit(postgres.db, fixture, 1);
  await claim(postgres.db, fixture);
  const suspects = (held: string[]) => listSuspects(postgres.db, fixture.endpointId, held, 0, 10);
  expect(await suspects([])).toMatchObject([{ id, attempt: 1, isHeld: false, missingMs: null }]);
  await noteMissing(postgres.db, [id], []);
  expect(await suspects([id])).toMatchObject([{ isHeld: true, missingMs: expect.any(Number) }]);
  await noteMissing(postgres.db, [], [id]);
  expect(await suspects([id])).toEqual([]);
  expect(await stateOf(postgres.db, id)).toBe('dispatched');
});

test('a heartbeat of an agent that was replaced does not count', async () => {
  const fixture = await makeFixture(postgres.db, { isOnline: false });
  const beat = (incarnation: string) =>
    recordHeartbeat(postgres.db, {
      endpointQueueId: fixture.endpointId,
      incarnation,
      periodS: 5,
      isActive: true,
      workers: 1,
      report: {},
    });
  await postgres.db.query(`update endpoint_queues set incarnation = 'new' where id = $1`, [fixture.endpointId]);
  expect(await beat('old')).toBeUndefined();
  expect(await beat('new')).toMatchObject({ changed: true, isOnline: true });
});

test('an attempt was dispatched to the present agent until that registers with another incarnation', async () => {
  const fixture = await makeFixture(postgres.db);
  const register = (incarnation: string | null): Promise<boolean> =>
    saveAgent(postgres.db, {
      id: fixture.endpointId,
      ownerId: fixture.ownerId,
      name: 'e',
      displayName: null,
      kind: 'agent',
      isPublic: false,
      groupId: null,
      allowedFunctions: null,
      metadata: {},
      incarnation,
      workers: 1,
      heartbeatPeriodS: 5,
      windowFloor: 10,
      windowSpanS: 0,
    });
  const hasSameAgent = async (): Promise<boolean | undefined> =>
    (await listSuspects(postgres.db, fixture.endpointId, [], 0, 10))[0]?.hasSameAgent;
  await register('first');
  await submit(postgres.db, fixture, 1);
  await claim(postgres.db, fixture);
  await register('first');
  expect(await hasSameAgent()).toBe(true);
  await register('second');
  expect(await hasSameAgent()).toBe(false);
  await postgres.db.query(`update tasks set dispatched_at = now() where endpoint_queue_id = $1`, [fixture.endpointId]);
  expect(await hasSameAgent()).toBe(true);
  await register(null); // agents without incarnations register at each start
  expect(await hasSameAgent()).toBe(false);
});

describe('a claim at the insert', () => {
  const insert = (
    fixture: StoreFixture,
    tasks: number,
  ): Promise<{ submissionId: string; taskIds: string[]; isClaimed: boolean }> =>
    submit(postgres.db, fixture, tasks, { isClaimed: true });

  test('dispatches the tasks where the queue has room, and repeating its claim id returns them', async () => {
    const fixture = await makeFixture(postgres.db, { window: 3 });
    const { submissionId, taskIds, isClaimed } = await insert(fixture, 2);
    expect(isClaimed).toBe(true);
    expect(await stateOf(postgres.db, taskIds[0]!)).toBe('dispatched');
    expect(await inFlight(postgres.db, fixture)).toEqual({ counted: 2, found: 2 });
    expect((await claim(postgres.db, fixture, `${submissionId}/0`)).map(({ id, attempt }) => [id, attempt])).toEqual(
      taskIds.map((id) => [id, 1]),
    );
    await answer(fixture, taskIds[0]!);
    expect((await claim(postgres.db, fixture, `${submissionId}/0`)).map(({ id }) => id)).toEqual([taskIds[1]]);
  });

  test('leaves the tasks waiting without room, behind tasks that wait, and for an offline endpoint', async () => {
    const full = await makeFixture(postgres.db, { window: 3 });
    expect(await insert(full, 4)).toMatchObject({ isClaimed: false });
    const behind = await insert(full, 1);
    expect(behind.isClaimed).toBe(false);
    expect(await stateOf(postgres.db, behind.taskIds[0]!)).toBe('waiting');
    const offline = await makeFixture(postgres.db, { isOnline: false });
    expect(await insert(offline, 1)).toMatchObject({ isClaimed: false });
    expect(await inFlight(postgres.db, offline)).toEqual({ counted: 0, found: 0 });
  });

  test('never exceeds the window, however many inserts there are at the same time', async () => {
    const fixture = await makeFixture(postgres.db, { window: 5 });
    const inserted = await Promise.all(Array.from({ length: 12 }, () => insert(fixture, 1)));
    const { counted, found } = await inFlight(postgres.db, fixture);
    expect(counted).toBe(found);
    expect(counted).toBeLessThanOrEqual(5);
    expect(inserted.filter(({ isClaimed }) => isClaimed)).toHaveLength(counted);
  });
});
