import type { ActivityDeps } from '../../activities';
import { runPump } from '../../activities/endpoint';
import type { PlaceWait } from '../../activities/free-places';
import type { Publisher } from '../../broker';
import type { PumpOutcome } from '../../contracts/activities';
import { createLogger } from '../../platform/log';
import { takeOverClaim } from '../../platform/store/claims';
import type { Database } from '../../platform/store/database';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** Two pumps of one endpoint queue: one stands still or dies, and the next attempt of the activity runs beside or after it. */

const pumpId = (attempt: number): string => `pump/run/1/${attempt}`;
/** Polls, because nobody tells these pumps of free places. */
const POLL: PlaceWait = {
  reset: () => undefined,
  next: () => new Promise((resolve) => setTimeout(resolve, 50)),
  close: () => undefined,
};

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

interface Pump {
  /** Task IDs, one for each message. */
  published: string[];
  ended: Promise<PumpOutcome>;
}

function startPump(
  fixture: StoreFixture,
  attempt: number,
  { db = postgres.db, confirmed = Promise.resolve() }: { db?: Database; confirmed?: Promise<void> } = {},
): Pump {
  const published: string[] = [];
  const publisher = {
    isReady: true,
    requireFlowing: () => Promise.resolve(),
    publish: async (_exchange: string, _key: string, _body: Uint8Array, { messageId = '' }: { messageId?: string }) => {
      published.push(messageId.slice(0, 36));
      await confirmed;
    },
  } as unknown as Publisher;
  const deps = { config: configFor(), log: createLogger('pumps', 'silent'), db, publisher } as unknown as ActivityDeps;
  const run = { pumpId: pumpId(attempt), isRetry: attempt > 1, signal: new AbortController().signal };
  return { published, ended: runPump(deps, fixture.endpointId, POLL, run) };
}

const claimOf = async ({ endpointId }: StoreFixture, pump: string): Promise<{ claim: string; at: string } | undefined> => {
  const { rows } = await postgres.db.query<{ entry: { claim: string; at: string } | null }>(
    'select pump_claims -> $2 as entry from endpoint_queues where id = $1',
    [endpointId, pump],
  );
  return rows[0]?.entry ?? undefined;
};

function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

test('what two overlapping pumps claimed before they died is published by the next one', async () => {
  const fixture = await makeFixture(postgres.db, { window: 3 });
  const { taskIds } = await submit(postgres.db, fixture, 6);
  await claim(postgres.db, fixture, `${pumpId(2)}/0`);
  await postgres.db.query('update endpoint_queues set window_size = 6 where id = $1', [fixture.endpointId]);
  await claim(postgres.db, fixture, `${pumpId(1)}/1`);
  const { published, ended } = startPump(fixture, 3);
  await ended;
  expect(published.sort()).toEqual(taskIds);
}, 30_000);

test('what a living pump is publishing is not published by another one', async () => {
  const fixture = await makeFixture(postgres.db, { window: 10 });
  const { taskIds } = await submit(postgres.db, fixture, 3);
  const { opened, open } = gate();
  const slow = startPump(fixture, 1, { confirmed: opened });
  const isPublishing = async (): Promise<{ claim: string; at: string } | false | undefined> =>
    slow.published.length === 3 && claimOf(fixture, pumpId(1));
  const first = await until('the first pump is publishing', isPublishing);
  const other = startPump(fixture, 2);
  await until('its claim would be taken over, if it did not renew it', async () => {
    const now = await claimOf(fixture, pumpId(1));
    expect(now?.claim).toBe(first.claim);
    return Date.parse(now?.at ?? '') - Date.parse(first.at) > 2_000;
  });
  open();
  await Promise.all([slow.ended, other.ended]);
  expect([...slow.published, ...other.published].sort()).toEqual(taskIds);
}, 30_000);

test('a pump that stood still between claim and publish publishes nothing that another one has taken over', async () => {
  const fixture = await makeFixture(postgres.db, { window: 10 });
  const { taskIds } = await submit(postgres.db, fixture, 3);
  const { opened, open } = gate();
  let hasClaimed = false;
  // After the claim, the pump gets no answer of the store and sends no statement, as if the process were stopped.
  const stopped = {
    query: async (statement: { name?: string }, values?: unknown[]) => {
      if (hasClaimed) await opened;
      const result = await postgres.db.query(statement as never, values as never);
      if (statement.name !== 'claim-tasks') return result;
      hasClaimed = true;
      await opened;
      return result;
    },
  } as unknown as Database;
  const still = startPump(fixture, 1, { db: stopped });
  await until('the first pump has claimed', () => hasClaimed);
  const other = startPump(fixture, 2);
  await until('the other pump has published', () => other.published.length === 3);
  open();
  await Promise.all([still.ended, other.ended]);
  expect(still.published).toEqual([]);
  expect(other.published.sort()).toEqual(taskIds);
}, 30_000);

test('what a pump has published is not published again when it dies afterwards', async () => {
  const fixture = await makeFixture(postgres.db, { window: 2 });
  const { taskIds } = await submit(postgres.db, fixture, 3);
  const first = startPump(fixture, 1);
  const isWaiting = async (): Promise<boolean> => first.published.length === 2 && !(await claimOf(fixture, pumpId(1)));
  await until('the first pump waits for a place', isWaiting);
  await postgres.db.query('update endpoint_queues set window_size = 3 where id = $1', [fixture.endpointId]);
  const other = startPump(fixture, 2);
  await Promise.all([first.ended, other.ended]);
  expect([...first.published, ...other.published].sort()).toEqual(taskIds);
}, 30_000);

test('what a pump could not publish is taken over at once', async () => {
  const fixture = await makeFixture(postgres.db, { window: 2 });
  await submit(postgres.db, fixture, 2);
  const confirmed = Promise.reject(new Error('no confirm'));
  await expect(startPump(fixture, 1, { confirmed }).ended).rejects.toThrow('no confirm');
  expect(await takeOverClaim(postgres.db, fixture.endpointId, `${pumpId(2)}/0`, 60_000)).toBe('taken');
}, 30_000);
