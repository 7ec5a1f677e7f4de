import { randomUUID } from 'node:crypto';

import { createRepeats } from '../../api/repeats';
import type { Broker } from '../../broker';
import { createReadiness } from '../../platform/health';
import { createLogger } from '../../platform/log';
import { claimTasks } from '../../platform/store/claims';
import { openDatabase } from '../../platform/store/database';
import { saveAgent } from '../../platform/store/endpoints';
import { listQueuesWithoutPump, recordHeartbeat } from '../../platform/store/presence';
import { saveLost } from '../../platform/store/unanswered-requests';
import type { Temporal } from '../../platform/temporal';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** Several processes at one store: locks, polling, hung connections, repeated requests. */

const log = createLogger('test', 'silent');
// Each waits for locks or timeouts, on a machine that may be busy.
jest.setTimeout(60_000);

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
});

test('heartbeats and registrations of one endpoint do not deadlock', async () => {
  const { endpointId, ownerId } = fixture;
  const register = (name: string): Promise<unknown> =>
    saveAgent(postgres.db, {
      id: endpointId,
      ownerId,
      name,
      displayName: null,
      kind: 'agent',
      isPublic: false,
      groupId: null,
      allowedFunctions: null,
      metadata: {},
      incarnation: 'one',
      workers: 1,
      heartbeatPeriodS: 5,
      windowFloor: 10,
      windowSpanS: 1,
    });
  const beat = (n: number): Promise<unknown> =>
    recordHeartbeat(postgres.db, {
      endpointQueueId: endpointId,
      incarnation: 'one',
      periodS: 5,
      isActive: true,
      workers: 1,
      report: { n },
    });
  for (let round = 0; round < 40; round++) {
    await Promise.all([beat(round), register(`a${round}`), beat(round + 1_000), register(`b${round}`)]);
  }
});

test('a pump that finds its window full, or nothing to do, writes nothing', async () => {
  const { endpointId } = await makeFixture(postgres.db, { window: 2 });
  await submit(postgres.db, { ...fixture, endpointId }, 5);
  const isWritten = async (statement: string): Promise<boolean> => {
    const client = await postgres.db.connect();
    try {
      await client.query('begin');
      await client.query(statement, [endpointId]);
      const { rows } = await client.query<{ id: string | null }>('select pg_current_xact_id_if_assigned() as id');
      await client.query('commit');
      return rows[0]?.id !== null;
    } finally {
      client.release();
    }
  };
  const look = `select claim_tasks($1, 'pump/run/1/1/' || gen_random_uuid(), 500, 1000000)`;
  const keep = `select keep_pumping($1, 'pump/run/1/1')`;
  const lookAround = `select take_over_claim($1, 'pump/run/1/1/' || gen_random_uuid(), 1000)`;
  expect(await isWritten(look)).toBe(true);
  expect(await isWritten(look)).toBe(false);
  expect(await isWritten(keep)).toBe(true);
  expect(await isWritten(keep)).toBe(false);
  expect(await isWritten(lookAround)).toBe(false);
  await postgres.db.query('update endpoint_queues set window_size = 100 where id = $1', [endpointId]);
  expect(await isWritten(look)).toBe(true);
  expect(await isWritten(look)).toBe(false);
});

test('queues whose tasks wait without a pump are found once, and queues without tasks are not', async () => {
  await submit(postgres.db, fixture, 2);
  const idle = await makeFixture(postgres.db);
  const found = (await listQueuesWithoutPump(postgres.db)).map((queue) => queue.endpointQueueId);
  expect(found).toContain(fixture.endpointId);
  expect(found).not.toContain(idle.endpointId);
  expect((await listQueuesWithoutPump(postgres.db)).map((queue) => queue.endpointQueueId)).not.toContain(fixture.endpointId);
});

test('a claim counts the code that each message carries, and holds it once', async () => {
  const CODE_BYTES = 1_000_000;
  await postgres.db.query(`update functions set code = convert_to(repeat('x', $2), 'UTF8') where id = $1`, [
    fixture.functionId,
    CODE_BYTES,
  ]);
  await submit(postgres.db, fixture, 10);
  const bounds = { tasks: 500, bytes: 3 * CODE_BYTES, inlineBytes: 1_000_000 };
  const tasks = await claimTasks(postgres.db, fixture.endpointId, randomUUID(), bounds);
  expect(tasks).toHaveLength(3);
  expect(tasks[0]?.code).toHaveLength(CODE_BYTES);
  expect(new Set(tasks.map((task) => task.code)).size).toBe(1);
});

describe('connections of the pool that hang', () => {
  const stopped: number[] = [];
  afterEach(() => {
    for (const pid of stopped.splice(0)) process.kill(pid, 'SIGCONT');
  });

  test('queries fail in bounded time, the service is not ready meanwhile, and new connections replace them', async () => {
    const db = openDatabase(postgres.url, 2, log, { connectMs: 2_000, statementMs: 3_000, queryMs: 4_000 });
    const answers = { withChannel: async () => undefined } as unknown as Broker;
    const temporal = { check: async () => undefined } as unknown as Temporal;
    const readiness = createReadiness({ db, broker: answers, temporal, worker: () => 'RUNNING' });
    try {
      const pids = await Promise.all(
        [1, 2].map(() => db.query<{ pid: number }>('select pg_backend_pid() as pid, pg_sleep(0.2)')),
      );
      expect((await readiness()).postgres).toEqual({ ok: true });
      for (const { rows } of pids) {
        process.kill(rows[0]!.pid, 'SIGSTOP'); // the query returned one row
        stopped.push(rows[0]!.pid);
      }
      const queries = [1, 2].map(() => db.query('select 1'));
      const outcomes = Promise.allSettled(queries);
      expect((await readiness()).postgres).toMatchObject({ ok: false });
      expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
      await until('the service is ready again', async () => (await readiness()).postgres?.ok);
    } finally {
      for (const pid of stopped.splice(0)) process.kill(pid, 'SIGCONT');
      await db.end();
    }
  }, 60_000);
});

describe('an equal request without a key, at another replica', () => {
  const hash = (): Buffer => Buffer.from(randomUUID());

  async function accept(bodyHash: Buffer, process: string): Promise<void> {
    const entry = { id: randomUUID(), bodyHash, listener: `host/${process}`, process };
    await saveLost(postgres.db, {
      ...entry,
      ownerId: fixture.ownerId,
      endpointId: fixture.endpointId,
      response: { requestId: 'the first' },
    });
    await postgres.db.query('update unanswered_requests set lost_at = null where id = $1', [entry.id]);
  }

  test('is new while the replica that accepted the first one lives', async () => {
    const [first, second] = [createRepeats(postgres.db, log), createRepeats(postgres.db, log)];
    await first.takeOver('host 1');
    await second.takeOver('host 2');
    const bodyHash = hash();
    await accept(bodyHash, first.entry(bodyHash).process);
    expect(await second.hasLost(fixture.ownerId, bodyHash)).toBe(false);
    first.close();
    second.close();
  });

  test('is the repeat when the replica that accepted the first one died', async () => {
    const [first, second] = [createRepeats(postgres.db, log), createRepeats(postgres.db, log)];
    await first.takeOver('host 3');
    await second.takeOver('host 4');
    const bodyHash = hash();
    const { process } = first.entry(bodyHash);
    await accept(bodyHash, process);
    first.close();
    // A lease that ends in two seconds: the repeat arrives before it does.
    await postgres.db.query(`update api_processes set alive_at = now() - interval '8 seconds' where id = $1`, [process]);
    expect(await second.hasLost(fixture.ownerId, bodyHash)).toBe(true);
    const taken = await second.takeLost(bodyHash, { ownerId: fixture.ownerId, endpointId: fixture.endpointId });
    expect(taken?.response).toEqual({ requestId: 'the first' });
    expect(await second.hasLost(fixture.ownerId, bodyHash)).toBe(false);
    second.close();
  }, 30_000);
});

test('a claim still returns the tasks of an interrupted one', async () => {
  await submit(postgres.db, fixture, 3);
  const first = await claim(postgres.db, fixture, 'pump/run/1/1/0');
  expect((await claim(postgres.db, fixture, 'pump/run/1/1/0')).map((task) => task.id)).toEqual(first.map((task) => task.id));
});
