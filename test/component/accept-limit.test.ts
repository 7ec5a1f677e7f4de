import { randomUUID } from 'node:crypto';

import { createAccept } from '../../accepting/accept';
import type { Accepted } from '../../accepting/accept-request';
import { createQuotas } from '../../accepting/quotas';
import { createLogger } from '../../platform/log';
import { leasesOf } from '../../platform/store/quotas';
import { removeLeftovers } from '../../platform/store/retention';
import type { Temporal } from '../../platform/temporal';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, makeOwner, submit } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** The limits of one owner hold for requests that arrive at the same time: most of them wait in their lane. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const LIMIT = 10;
const REQUESTS = 40;
const ARGUMENTS = 'x'.repeat(1_000);

async function submitAtOnce(
  limits: Record<string, string>,
  { hasManyGroups = false, processes = 1 } = {},
): Promise<{ accepted: Accepted[]; reasons: unknown[]; stored: number }> {
  const { ownerId, endpointId, functionId } = await makeFixture(postgres.db);
  const config = configFor(limits);
  const accepts = Array.from({ length: processes }, () =>
    createAccept({
      config,
      log: createLogger('test', 'silent'),
      db: postgres.db,
      // As slow as a start of a busy server, so that requests gather behind the first.
      temporal: {
        startSubmission: () => new Promise((resolve) => setTimeout(() => resolve({ wasEager: false }), 20)),
      } as unknown as Temporal,
      groupQueues: { ensure: async () => undefined },
      quotas: createQuotas(postgres.db, config),
    }),
  );
  const oneGroup = randomUUID();
  const settled = await Promise.allSettled(
    Array.from({ length: REQUESTS }, (_, index) =>
      accepts[index % processes]!({
        owner: { id: ownerId, name: 'owner' },
        endpoint: { id: endpointId, name: 'e' },
        endpointQueueId: endpointId,
        taskGroupId: hasManyGroups ? randomUUID() : oneGroup,
        resultQueue: 'none',
        calls: [{ functionId, functionName: 'f', codeBytes: 4, payloads: [ARGUMENTS] }],
        policy: {},
      }),
    ),
  );
  const { rows } = await postgres.db.query<{ n: number }>('select count(*)::int as n from tasks where owner_id = $1', [ownerId]);
  return {
    accepted: settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])),
    reasons: settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : [])),
    stored: rows[0]!.n,
  };
}

describe.each([
  ['one process', 1],
  ['three processes', 3],
])('requests that arrive at the same time at %s', (_where, processes) => {
  test.each([
    ['open tasks', { FUNCX_MAX_OPEN_TASKS: String(LIMIT) }, {}],
    ['stored bytes', { FUNCX_MAX_STORED_BYTES: String(LIMIT * (ARGUMENTS.length + 100)) }, {}],
    ['open task groups', { FUNCX_MAX_OPEN_GROUPS: String(LIMIT) }, { hasManyGroups: true }],
  ])('do not exceed the limit of %s, and reach it', async (_, limits, groups) => {
    const { accepted, reasons, stored } = await submitAtOnce(limits, { ...groups, processes });
    expect(accepted).toHaveLength(LIMIT);
    expect(stored).toBe(LIMIT);
    for (const reason of reasons) expect(reason).toMatchObject({ code: 'LIMIT_EXCEEDED', retryAfterS: expect.any(Number) });
  });
});

test('requests of one new group that arrive at the same time take the room of one group', async () => {
  const { accepted, stored } = await submitAtOnce({ FUNCX_MAX_OPEN_GROUPS: '1' });
  expect(accepted).toHaveLength(REQUESTS);
  expect(stored).toBe(REQUESTS);
});

test('task groups that were closed and are used again at the same time do not exceed the limit', async () => {
  const fixture = await makeFixture(postgres.db);
  const quotas = createQuotas(postgres.db, configFor({ FUNCX_MAX_OPEN_GROUPS: String(LIMIT) }));
  const groupIds = Array.from({ length: REQUESTS }, () => randomUUID());
  for (const groupId of groupIds) (await quotas.reserveTaskGroup(fixture.ownerId, groupId))(true); // nothing of it is open
  const outcomes = await Promise.allSettled(
    groupIds.map(async (groupId) => {
      const end = await quotas.reserveTaskGroup(fixture.ownerId, groupId);
      await submit(postgres.db, fixture, 1, { groupId });
      end(true);
    }),
  );
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(LIMIT);
});

test('a group with open tasks is used at the limit, and takes no lease', async () => {
  const fixture = await makeFixture(postgres.db);
  const quotas = createQuotas(postgres.db, configFor({ FUNCX_MAX_OPEN_GROUPS: '1' }));
  const groupId = randomUUID();
  const end = await quotas.reserveTaskGroup(fixture.ownerId, groupId);
  await submit(postgres.db, fixture, 1, { groupId });
  end(true);
  await until('the room is given back', async () => (await leasesOfOwner(fixture.ownerId)) === 0);
  (await quotas.reserveTaskGroup(fixture.ownerId, groupId))(true);
  expect(await leasesOfOwner(fixture.ownerId)).toBe(0);
  await expect(quotas.reserveTaskGroup(fixture.ownerId, randomUUID())).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
});

test('endpoints that are registered at the same time do not exceed the limit', async () => {
  const ownerId = await makeOwner(postgres.db);
  const quotas = createQuotas(postgres.db, configFor({ FUNCX_MAX_ENDPOINTS: String(LIMIT) }));
  const create = async (): Promise<void> => {
    await quotas.requireRoomForEndpoint(ownerId);
    await postgres.db.query(`insert into endpoints (id, owner_id, name, kind) values ($1, $2, 'e', 'agent')`, [
      randomUUID(),
      ownerId,
    ]);
  };
  const outcomes = await Promise.allSettled(Array.from({ length: REQUESTS }, create));
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(LIMIT);
});

async function leasesOfOwner(ownerId: string): Promise<number> {
  const { rows } = await postgres.db.query('select from quota_leases where owner_id = $1', [ownerId]);
  return rows.length;
}

describe('the lease of a process that died', () => {
  let ownerId: string;
  beforeEach(async () => {
    ownerId = await makeOwner(postgres.db);
    const wanted = { limit: LIMIT, reserved: 0, more: LIMIT, shares: 32, lifetimeS: 60 };
    expect(await leasesOf(postgres.db, 'schedules').lease(ownerId, wanted)).toMatchObject({ leased: LIMIT });
  });
  const expire = (): Promise<unknown> =>
    postgres.db.query(`update quota_leases set expires_at = now() - interval '1 second' where owner_id = $1`, [ownerId]);

  test('holds its room until it expires', async () => {
    const wanted = { limit: LIMIT, reserved: 0, more: 1, shares: 32, lifetimeS: 60 };
    const other = leasesOf(postgres.db, 'schedules');
    expect(await other.lease(ownerId, wanted)).toEqual({ used: 0, others: LIMIT, leased: 0 });
    await expire();
    expect(await other.lease(ownerId, wanted)).toEqual({ used: 0, others: 0, leased: 1 });
  });

  test('is removed after it expired', async () => {
    await removeLeftovers(postgres.db, new Date(0));
    expect(await leasesOfOwner(ownerId)).toBe(1);
    await expire();
    await removeLeftovers(postgres.db, new Date(0));
    expect(await leasesOfOwner(ownerId)).toBe(0);
  });
});

test('a lease is a share beyond what is reserved, if the share is not small and there is room for it', async () => {
  const ownerId = await makeOwner(postgres.db);
  const leases = leasesOf(postgres.db, 'schedules');
  const lease = async (limit: number, reserved: number, more: number): Promise<number> =>
    (await leases.lease(ownerId, { limit, reserved, more, shares: 32, lifetimeS: 60 })).leased;
  expect(await lease(32_000, 10_000, 1)).toBe(11_000);
  expect(await lease(32_000, 31_500, 1)).toBe(32_000);
  expect(await lease(3_100, 10, 1)).toBe(11);
});
