import { randomUUID } from 'node:crypto';

import { createAccept } from '../../accepting/accept';
import { createQuotas } from '../../accepting/quotas';
import type { ApiDeps } from '../../api/deps';
import { createRepeats, type Repeats } from '../../api/repeats';
import { TerminalError } from '../../contracts/errors';
import { encodeFrame } from '../../contracts/frames';
import { createLogger } from '../../platform/log';
import { storeAnswers } from '../../platform/store/answers';
import type { Temporal } from '../../platform/temporal';
import { configFor, person, startApi, type Answer, type ApiHarness } from '../helpers/api-harness';
import { makeFlow } from '../helpers/flow-fixture';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';
import { lostOnTheWay, neverSent, unreliable, type Accident } from '../helpers/unreliable-store';

/** Requests that fail after a part of them is stored. Clients repeat them, and everything is done once. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const log = createLogger('test', 'silent');
const PAYLOAD = '28\n00\ngASVBgAAAAAAAABNgAOFlC4=\n12\n00\ngAR9lC4=\n';

interface Process {
  api: ApiHarness;
  repeats: Repeats;
  die(): Promise<void>;
}

let fixture: StoreFixture;
let running: Process[];
/** Names or texts of the statements so far. */
let statements: string[];
let accidentOf: (statement: string) => Accident | undefined;
let listeners = 0;
/** Ends accidents that keep their request waiting. */
let release: () => void;
let released: Promise<void>;

beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
  running = [];
  statements = [];
  accidentOf = () => undefined;
  released = new Promise<void>((resolve) => (release = resolve));
});
afterEach(async () => {
  release();
  for (const { api, repeats } of running) {
    repeats.close();
    await api.close();
  }
});

/** A process of `api`. */
async function start(limits: Record<string, string> = {}, deps: Partial<ApiDeps> = {}): Promise<Process> {
  const db = unreliable(postgres.db, (statement) => {
    statements.push(statement);
    return accidentOf(statement);
  });
  const config = configFor(limits);
  const repeats = createRepeats(db, log);
  await repeats.takeOver(`repeated ${listeners++}`);
  const accept = createAccept({
    config,
    log,
    db,
    temporal: { startSubmission: async () => ({ wasEager: false }) } as unknown as Temporal,
    groupQueues: { ensure: async () => undefined },
    quotas: createQuotas(db, config),
  });
  const api = await startApi({
    db,
    people: [person('owner', { id: fixture.ownerId })],
    config,
    deps: { accept, repeats, ...deps },
  });
  const { process } = repeats.entry(Buffer.alloc(0));
  const started = {
    api,
    repeats,
    async die() {
      repeats.close();
      await postgres.db.query(`update api_processes set alive_at = now() - interval '1 minute' where id = $1`, [process]);
    },
  };
  running.push(started);
  return started;
}

/** Meets an accident at the nth statement of this name. */
function meetAt(name: string, nth: number, accident: Accident): void {
  accidentOf = (statement) =>
    statement === name && statements.filter((one) => one === name).length === nth ? accident : undefined;
}

/** Records of requests that a repeat could continue. */
async function recorded(): Promise<number> {
  const { rowCount } = await postgres.db.query('select from unanswered_requests where owner_id = $1', [fixture.ownerId]);
  return rowCount ?? 0;
}
const noRecord = (): Promise<unknown> => until('no record is left', async () => (await recorded()) === 0);

async function storedTasks(): Promise<string[]> {
  const { rows } = await postgres.db.query<{ id: string }>('select id from tasks where owner_id = $1 order by id', [
    fixture.ownerId,
  ]);
  return rows.map(({ id }) => id);
}

describe.each([
  ['Globus Compute', {}],
  ['funcX 1.0', { 'user-agent': 'funcx-sdk-1.0.4' }],
])('a list of tasks for two endpoints from a client of %s', (_, headers: Record<string, string>) => {
  let otherId: string;
  beforeEach(async () => {
    otherId = randomUUID();
    await postgres.db.query(`insert into endpoints (id, owner_id, name, kind) values ($1, $2, 'other', 'agent')`, [
      otherId,
      fixture.ownerId,
    ]);
    await postgres.db.query(
      `insert into endpoint_queues (id, endpoint_id, window_size, window_floor, window_span_s) values ($1, $1, 4, 4, 0)`,
      [otherId],
    );
  });

  const send = ({ api }: Process): Promise<Answer> => {
    const tasks = [fixture.endpointId, otherId].map((id) => [fixture.functionId, id, PAYLOAD]);
    return api.request('owner', 'POST', '/v2/submit', { tasks }, headers);
  };
  const idsOf = ({ body }: Answer): string[] =>
    (body as { results: { task_uuid: string }[] }).results.map((one) => one.task_uuid);
  const endpointsOf = async (ids: string[]): Promise<string[]> => {
    const { rows } = await postgres.db.query<{ at: string }>(
      `select endpoint_queue_id as at from unnest($1::uuid[]) with ordinality as given (id, n) join tasks using (id) order by n`,
      [ids],
    );
    return rows.map(({ at }) => at);
  };

  test('is refused as a whole when its last task would be over a limit', async () => {
    expect(await send(await start({ FUNCX_MAX_OPEN_TASKS: '1' }))).toMatchObject({ status: 429 });
    expect(await storedTasks()).toEqual([]);
  });

  test('is not stored in part when the store fails between the endpoints', async () => {
    const process = await start();
    meetAt('insert-submission', 2, neverSent);
    expect((await send(process)).status).toBeGreaterThanOrEqual(500);
    expect(await storedTasks()).toEqual([]);
    const repeated = await send(process);
    expect(repeated.status).toBe(200);
    expect(await storedTasks()).toEqual(idsOf(repeated).sort());
    expect(await endpointsOf(idsOf(await send(process)))).toEqual([fixture.endpointId, otherId]);
  });

  test('is stored once when nobody heard of its commit, whichever process gets the repeat', async () => {
    const [first, second] = [await start(), await start()];
    meetAt('commit', 1, lostOnTheWay);
    expect((await send(first)).status).toBeGreaterThanOrEqual(500);
    const repeated = await send(second);
    expect(repeated.status).toBe(200);
    expect(await storedTasks()).toEqual([...idsOf(repeated)].sort());
    expect(await endpointsOf(idsOf(repeated))).toEqual([fixture.endpointId, otherId]);
    expect(idsOf(await send(second))).not.toEqual(idsOf(repeated));
  });

  test('is stored once when its process dies after the commit', async () => {
    const [first, second] = [await start(), await start()];
    meetAt('commit', 1, async (run) => {
      await run();
      await released;
      throw new Error('the process died');
    });
    const unanswered = send(first).catch(() => undefined);
    await until('the tasks are stored', async () => (await storedTasks()).length === 2);
    await first.die();
    const repeated = await send(second);
    expect(await storedTasks()).toEqual([...idsOf(repeated)].sort());
    release();
    await unanswered;
  });
});

describe('a submit whose commit nobody heard of', () => {
  test('is stored once when its repeat fails as well', async () => {
    const process = await start();
    const send = (): Promise<Answer> =>
      process.api.request('owner', 'POST', `/v3/endpoints/${fixture.endpointId}/submit`, {
        tasks: { [fixture.functionId]: [PAYLOAD] },
      });
    meetAt('insert-submission', 1, lostOnTheWay);
    expect((await send()).status).toBeGreaterThanOrEqual(500);
    accidentOf = (statement) => (statement.startsWith('update unanswered_requests') ? lostOnTheWay : undefined);
    expect((await send()).status).toBeGreaterThanOrEqual(500);
    accidentOf = () => undefined;
    const third = await send();
    expect(third.status).toBe(200);
    expect(await storedTasks()).toEqual((third.body as { tasks: Record<string, string[]> }).tasks[fixture.functionId]);
  });
});

describe('a list of tasks for three endpoints, of which one refuses the owner', () => {
  let endpointIds: string[];
  let underWay: number;
  let most: number;
  const placement: ApiDeps['placement'] = {
    async place({ endpointId }) {
      most = Math.max(most, ++underWay);
      await new Promise((resolve) => setImmediate(resolve));
      underWay--;
      if (endpointId === endpointIds[1]) throw new TerminalError('LIMIT_EXCEEDED', 'too many user endpoints');
      return fixture.endpointId;
    },
    wake: () => undefined,
  };
  beforeEach(async () => {
    [underWay, most] = [0, 0];
    endpointIds = [randomUUID(), randomUUID(), randomUUID()];
    await postgres.db.query(
      `insert into endpoints (id, owner_id, name, kind) select id, $1, 'stock', 'globus' from unnest($2::uuid[]) as id`,
      [fixture.ownerId, endpointIds],
    );
  });
  const send = async (headers: Record<string, string>): Promise<Answer> => {
    const { api } = await start({}, { placement });
    const tasks = endpointIds.map((id) => [fixture.functionId, id, PAYLOAD]);
    return api.request('owner', 'POST', '/v2/submit', { tasks }, headers);
  };

  test('is refused as a whole to a client of Globus Compute', async () => {
    expect(await send({})).toMatchObject({ status: 429 });
    expect(await storedTasks()).toEqual([]);
  });

  test('has an error for the tasks of this endpoint for a client of funcX 1.0; endpoints are prepared one after another', async () => {
    const { body } = await send({ 'user-agent': 'funcx-sdk-1.0.4' });
    const [first, second, third] = (body as { results: { status: string; task_uuid: string }[] }).results;
    expect([first?.status, second?.status, third?.status]).toEqual(['Success', expect.not.stringMatching('Success'), 'Success']);
    expect((await storedTasks()).sort()).toEqual([first!.task_uuid, third!.task_uuid].sort());
    expect(most).toBe(1);
  });
});

describe('a retry of a task group', () => {
  /** Two submissions of one group, with a task that failed in each; the first also has an open task. */
  async function failedGroup(): Promise<{ groupId: string; openId: string }> {
    const first = await submit(postgres.db, fixture, 2, { payload: '11\nargs' });
    const second = await submit(postgres.db, fixture, 1, { payload: '11\nargs', groupId: first.groupId });
    await claim(postgres.db, fixture);
    await fail(first.taskIds[0]!);
    await fail(second.taskIds[0]!);
    return { groupId: first.groupId, openId: first.taskIds[1]! };
  }
  const fail = (taskId: string): Promise<unknown> => {
    const error = { code: 'RemoteExecutionError', user_message: '' };
    const frame = encodeFrame({ message_type: 'result', data: { task_id: taskId, data: 'why', error_details: error } });
    return storeAnswers(postgres.db, [
      { taskId, endpointQueueId: fixture.endpointId, attempt: 1, state: 'failed', frame, error: 'why' },
    ]);
  };
  const send = ({ api }: Process, groupId: string): Promise<Answer> =>
    api.request('owner', 'POST', `/v1/taskgroups/${groupId}/retry`, {});

  test('that failed half-way is completed by its repeat, and no task is submitted twice', async () => {
    const process = await start();
    const { groupId, openId } = await failedGroup();
    const before = await storedTasks();
    meetAt('insert-submission', 2, neverSent);
    expect((await send(process, groupId)).status).toBeGreaterThanOrEqual(500);
    await fail(openId); // after the first request, which therefore does not mean this task
    const repeated = await send(process, groupId);
    expect(repeated).toMatchObject({ status: 200, body: { tasks: 2 } });
    const made = (await storedTasks()).filter((id) => !before.includes(id));
    expect(made).toHaveLength(2);
    const { rows } = await postgres.db.query('select distinct task_group_id from tasks where id = any ($1)', [made]);
    expect(rows).toEqual([{ task_group_id: (repeated.body as { task_group_id: string }).task_group_id }]);
    expect(await send(process, groupId)).toMatchObject({ status: 200, body: { tasks: 3 } });
  });

  test('that was refused half-way is completed by its repeat at another process', async () => {
    const first = await start({ FUNCX_MAX_OPEN_TASKS: '2' });
    const { groupId } = await failedGroup(); // its open task counts
    const before = await storedTasks();
    expect(await send(first, groupId)).toMatchObject({ status: 429 });
    expect(await send(await start(), groupId)).toMatchObject({ status: 200, body: { tasks: 2 } });
    expect((await storedTasks()).filter((id) => !before.includes(id))).toHaveLength(2);
  });

  test('that was refused and submitted nothing leaves nothing: the next one means what has failed by then', async () => {
    const process = await start({ FUNCX_MAX_OPEN_TASKS: '1' });
    const { groupId, openId } = await failedGroup();
    expect(await send(process, groupId)).toMatchObject({ status: 429 });
    await noRecord();
    await fail(openId);
    expect(await send(await start(), groupId)).toMatchObject({ status: 200, body: { tasks: 3 } });
  });

  test('with the key of another retry is a conflict', async () => {
    const { api } = await start();
    const [one, other] = [await failedGroup(), await failedGroup()];
    const retry = (groupId: string): Promise<Answer> =>
      api.request('owner', 'POST', `/v1/taskgroups/${groupId}/retry`, {}, { 'idempotency-key': 'same' });
    const first = await retry(one.groupId);
    expect(first).toMatchObject({ status: 200, body: { tasks: 2 } });
    expect(await retry(other.groupId)).toMatchObject({ status: 409 });
    expect((await retry(one.groupId)).body).toEqual(first.body);
  });
});

test('the start of a flow run is answered although the store is away after its commit', async () => {
  const flow = await makeFlow(postgres.db, fixture.ownerId);
  const owner = person('starter', { id: fixture.ownerId, resourceServer: flow.id });
  const db = unreliable(postgres.db, (statement) => {
    statements.push(statement);
    return statements.includes('commit') && statement !== 'commit' ? neverSent : undefined;
  });
  const repeats = createRepeats(db, log);
  await repeats.takeOver(`repeated ${listeners++}`);
  const starter = await startApi({ db, people: [owner], deps: { repeats } });
  running.push({ api: starter, repeats, die: async () => undefined });
  const answer = await starter.request('starter', 'POST', `/flows/${flow.id}/run`, { body: {} });
  expect(answer).toMatchObject({ status: 201, body: { flow_id: flow.id, status: 'ACTIVE' } });
});

test('the start of a flow run whose first run was deleted starts another one, and leaves no record', async () => {
  const flow = await makeFlow(postgres.db, fixture.ownerId);
  const db = unreliable(postgres.db, (statement) => {
    statements.push(statement);
    return statement === 'commit' && statements.filter((one) => one === 'commit').length === 1 ? lostOnTheWay : undefined;
  });
  const repeats = createRepeats(db, log);
  await repeats.takeOver(`repeated ${listeners++}`);
  const owner = person('starter', { id: fixture.ownerId, resourceServer: flow.id });
  const api = await startApi({ db, people: [owner], deps: { repeats } });
  running.push({ api, repeats, die: async () => undefined });
  const send = (): Promise<Answer> => api.request('starter', 'POST', `/flows/${flow.id}/run`, { body: {} });
  expect((await send()).status).toBeGreaterThanOrEqual(500);
  const { rowCount } = await postgres.db.query('delete from flow_runs where owner_id = $1', [fixture.ownerId]);
  expect(rowCount).toBe(1);
  expect(await send()).toMatchObject({ status: 201 });
  await noRecord();
});

test.each(['/v1/endpoints/', '/V1/Endpoints', '/v1/endpoints?source=test'])('POST %s registers an endpoint', async (path) => {
  const { api } = await start();
  const wanted = { name: 'new', incarnation: randomUUID(), workers: 1, metadata: {} };
  expect(await api.request('owner', 'POST', path, wanted)).toMatchObject({ status: 200 });
});

test('an endpoint whose registration failed at the broker gets the same ID at the repeat', async () => {
  let failures = 1;
  const queues: ApiDeps['queues'] = {
    declare: async () => {
      if (failures-- > 0) throw new Error('the broker is away');
    },
    hasListener: async () => false,
    hasConsumer: async () => false,
    delete: async () => undefined,
  };
  const { api } = await start({}, { queues });
  const wanted = { name: 'new', incarnation: randomUUID(), workers: 1, metadata: {} };
  const register = (): Promise<Answer> => api.request('owner', 'POST', '/v1/endpoints', wanted);
  expect((await register()).status).toBeGreaterThanOrEqual(500);
  const repeated = await register();
  expect(repeated.status).toBe(200);
  const ids = async (): Promise<string[]> => {
    const text = `select id from endpoints where owner_id = $1 and name = 'new' and deleted_at is null`;
    return (await postgres.db.query<{ id: string }>(text, [fixture.ownerId])).rows.map(({ id }) => id);
  };
  expect(await ids()).toEqual([(repeated.body as { endpoint_id: string }).endpoint_id]);

  failures = 1;
  await postgres.db.query('update endpoints set deleted_at = now() where owner_id = $1', [fixture.ownerId]);
  expect((await register()).status).toBeGreaterThanOrEqual(500);
  const [failed] = await ids();
  await postgres.db.query('update endpoints set deleted_at = now() where owner_id = $1', [fixture.ownerId]);
  expect(await register()).toMatchObject({ status: 200 }); // the user deleted it, so this is a new one
  expect(await ids()).toEqual([expect.not.stringMatching(failed!)]);
});

describe('a schedule', () => {
  const unused = async (): Promise<never> => {
    throw new Error('not part of this test');
  };
  const schedulesWith = (create: () => Promise<void>): ApiDeps['schedules'] => ({
    create,
    read: unused,
    pause: unused,
    trigger: unused,
    backfill: unused,
    times: unused,
    delete: unused,
  });
  const wanted = () => ({
    name: 'hourly',
    target: { function: fixture.functionId, endpoint: fixture.endpointId },
    every_s: 3_600,
  });
  const names = async (): Promise<unknown[]> =>
    (await postgres.db.query<object>('select name from schedules where owner_id = $1', [fixture.ownerId])).rows;

  test('that failed at Temporal is completed by the repeat, and answered although it cannot be read', async () => {
    let failures = 1;
    const { api } = await start(
      {},
      {
        schedules: schedulesWith(async () => {
          if (failures-- > 0) throw new Error('Temporal is away');
        }),
      },
    );
    expect((await api.request('owner', 'POST', '/v1/schedules', wanted())).status).toBeGreaterThanOrEqual(500);
    expect(await api.request('owner', 'POST', '/v1/schedules', wanted())).toMatchObject({
      status: 201,
      body: { name: 'hourly', every_s: 3_600, paused: false, next_times: [] },
    });
    expect(await names()).toEqual([{ name: 'hourly' }]);
  });

  test('that failed at Temporal and was then deleted is created again', async () => {
    let failures = 1;
    const create = async (): Promise<void> => {
      if (failures-- > 0) throw new Error('Temporal is away');
    };
    const { api } = await start({}, { schedules: { ...schedulesWith(create), delete: async () => undefined } });
    expect((await api.request('owner', 'POST', '/v1/schedules', wanted())).status).toBeGreaterThanOrEqual(500);
    const { rows } = await postgres.db.query<{ id: string }>('select id from schedules where owner_id = $1', [fixture.ownerId]);
    expect((await api.request('owner', 'DELETE', `/v1/schedules/${rows[0]!.id}`)).status).toBe(200);
    const again = await api.request('owner', 'POST', '/v1/schedules', wanted());
    expect(again).toMatchObject({ status: 201, body: { name: 'hourly' } });
    await noRecord();
  });

  test('that Temporal refuses leaves nothing, and its repeat is refused for the same reason', async () => {
    const refuse = async (): Promise<never> => {
      throw new TerminalError('INVALID_REQUEST', 'these times cannot be scheduled');
    };
    const { api } = await start({}, { schedules: schedulesWith(refuse) });
    for (let n = 0; n < 2; n++)
      expect(await api.request('owner', 'POST', '/v1/schedules', wanted())).toMatchObject({ status: 422 });
    expect(await names()).toEqual([]);
    await noRecord();
  });
});
