import { randomUUID } from 'node:crypto';

import { createAccept } from '../../accepting/accept';
import type { Accepted } from '../../accepting/accept-request';
import { createQuotas } from '../../accepting/quotas';
import { createLogger } from '../../platform/log';
import type { Temporal } from '../../platform/temporal';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture } from '../helpers/store-fixture';

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
