import type { ActivityDeps } from '../../activities';
import type { UserEndpoints } from '../../activities/user-endpoints';
import type { Broker, BrokerChannel, ReceivedMessage } from '../../broker';
import { attemptName, encodeFrame } from '../../contracts/frames';
import { statusKey } from '../../contracts/names';
import type { EndpointInput } from '../../contracts/submission';
import { createLogger } from '../../platform/log';
import { recordHeartbeats, sweepOffline } from '../../platform/store/presence';
import { startPresenceLoop, type PresenceLoop } from '../../workers/presence-loop';
import { ResultsInHand } from '../../workers/results-in-hand';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** Which silence makes an endpoint offline, and what happens when many endpoints fall silent at the same time. */

/** What one sweep sends to Temporal. */
const MOST_SIGNALS = 50;
/** Much shorter than the interval of the sweep, 1 s. */
const SAME_SWEEP_MS = 400;
const HEARD = { heardForMs: 3_600_000, hiddenForMs: 20_000 };

jest.setTimeout(60_000); // several runs of the sweep, on a machine that may be busy

let postgres: ScratchPostgres;
let loop: PresenceLoop | undefined;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterEach(async () => {
  await loop?.close();
  loop = undefined;
});
afterAll(() => postgres.stop(), 30_000);

interface FakeSystem {
  /** Signals the workflow of an endpoint; a test replaces it. */
  signal: (endpointQueueId: string) => Promise<void>;
  onPause?: () => void;
}

async function startLoop(system: FakeSystem): Promise<PresenceLoop> {
  const channel = { checkQueue: async () => ({ messageCount: 0, consumerCount: 1 }) } as unknown as BrokerChannel;
  const broker = {
    consume: async () => ({ isConsuming: true, pause: async () => system.onPause?.(), close: async () => undefined }),
    withChannel: (use: (channel: BrokerChannel) => Promise<unknown>) => use(channel),
  } as unknown as Broker;
  const deps = {
    config: configFor(),
    log: createLogger('presence', 'silent'),
    db: postgres.db,
    publisher: { requireFlowing: () => Promise.resolve() },
    temporal: { signalPresence: (input: EndpointInput) => system.signal(input.taskQueueId) },
  } as unknown as ActivityDeps;
  return startPresenceLoop(broker, deps, {} as UserEndpoints, new ResultsInHand());
}

/** An online endpoint whose last heartbeat is long ago. */
async function silentEndpoint(): Promise<string> {
  const { endpointId } = await makeFixture(postgres.db);
  await postgres.db.query(
    `update endpoint_queues set heartbeat_period_s = 0.2, last_heartbeat_at = now() - interval '1 minute' where id = $1`,
    [endpointId],
  );
  return endpointId;
}

test('when many endpoints fall silent, each sweep signals a part of them, and a signal that fails drops no other', async () => {
  const silent = await Promise.all(Array.from({ length: 130 }, silentEndpoint));
  const refused = silent[0]!;
  const signalled = new Set<string>();
  const sweeps: { atMs: number; signals: number }[] = [];
  let refusals = 0;
  loop = await startLoop({
    async signal(id) {
      const sweep = sweeps.at(-1);
      if (sweep && Date.now() - sweep.atMs < SAME_SWEEP_MS) sweep.signals++;
      else sweeps.push({ atMs: Date.now(), signals: 1 });
      if (id === refused && refusals++ === 0) throw new Error('no answer');
      signalled.add(id);
    },
  });
  await until('every endpoint is signalled', () => silent.every((id) => signalled.has(id)));
  expect(Math.max(...sweeps.map(({ signals }) => signals))).toBe(MOST_SIGNALS);
  const { rows } = await postgres.db.query('select 1 from endpoint_queues where id = any ($1) and is_online', [silent]);
  expect(rows).toEqual([]);
});

test('a loop that closes lets its running sweep end', async () => {
  const events: string[] = [];
  let answer: (() => void) | undefined;
  await silentEndpoint();
  const closing = await startLoop({
    signal: () => new Promise<void>((resolve) => (answer = resolve)),
    onPause: () => events.push('paused'),
  });
  await until('the sweep waits for Temporal', () => answer !== undefined);
  const closed = closing.close().then(() => events.push('closed'));
  await new Promise((resolve) => setImmediate(resolve));
  events.push('answered');
  answer?.();
  await closed;
  expect(events).toEqual(['answered', 'paused', 'closed']);
});

describe('the silence that counts', () => {
  const isOffline = async (id: string): Promise<boolean> =>
    (await sweepOffline(postgres.db, HEARD)).some(({ endpointQueueId }) => endpointQueueId === id);
  const lastHeard = (id: string, secondsAgo: number): Promise<unknown> =>
    postgres.db.query(
      `update endpoint_queues set is_online = true, heartbeat_period_s = 5, last_heartbeat_at = now() - $2 * interval '1 second'
        where id = $1`,
      [id, secondsAgo],
    );

  test('of an agent is two and a half heartbeat periods', async () => {
    const { endpointId } = await makeFixture(postgres.db);
    await lastHeard(endpointId, 12);
    expect(await isOffline(endpointId)).toBe(false);
    await lastHeard(endpointId, 13);
    expect(await isOffline(endpointId)).toBe(true);
  });

  test('of a user endpoint is longer than a process that hangs can hide its heartbeats', async () => {
    const { endpointId, ownerId } = await makeFixture(postgres.db);
    await postgres.db.query('update endpoint_queues set owner_id = $2 where id = $1', [endpointId, ownerId]);
    await lastHeard(endpointId, 24);
    expect(await isOffline(endpointId)).toBe(false);
    await lastHeard(endpointId, 26);
    expect(await isOffline(endpointId)).toBe(true);
  });

  test('begins when a late heartbeat was sent, and a later heartbeat that was recorded before counts', async () => {
    const { endpointId } = await makeFixture(postgres.db);
    const beat = async (lateMs: number): Promise<number> => {
      const report = { incarnation: null, periodS: 5, isActive: true, workers: 1, report: {}, lateMs };
      await recordHeartbeats(postgres.db, [{ endpointQueueId: endpointId, ...report }]);
      const { rows } = await postgres.db.query<{ ago: number }>(
        'select extract(epoch from now() - last_heartbeat_at)::double precision as ago from endpoint_queues where id = $1',
        [endpointId],
      );
      return rows[0]!.ago;
    };
    expect(await beat(60_000)).toBeGreaterThanOrEqual(60);
    expect(await isOffline(endpointId)).toBe(true);
    expect(await beat(0)).toBeLessThan(10);
    expect(await beat(60_000)).toBeLessThan(20);
  });
});

test('a late report does not say that an attempt is missing', async () => {
  const fixture = await makeFixture(postgres.db);
  const { endpointId } = fixture;
  const {
    taskIds: [taskId = ''],
  } = await submit(postgres.db, fixture, 1);
  await claim(postgres.db, fixture);
  await postgres.db.query(`update tasks set dispatched_at = now() - interval '1 hour' where id = $1`, [taskId]);
  const receiving = (loop = await startLoop({ signal: async () => undefined }));
  /** A report that was sent this long ago and names these attempts. True if it says that the attempt is missing. */
  const report = async (agoMs: number, held: string[]): Promise<boolean> => {
    const state = { heartbeat_period: 5, sent_ms: Date.now() - agoMs, held };
    const body = Buffer.from(
      encodeFrame({ message_type: 'ep_status_report', data: { endpoint_id: endpointId, global_state: state } }),
    );
    await receiving.receive({ body, routingKey: statusKey(endpointId), ack: () => undefined } as unknown as ReceivedMessage);
    const { rows } = await postgres.db.query('select 1 from tasks where id = $1 and missing_since is not null', [taskId]);
    return rows.length > 0;
  };
  await report(0, [attemptName(taskId, 1)]);
  expect(await report(10_000, [])).toBe(false);
  expect(await report(0, [])).toBe(true);
});
