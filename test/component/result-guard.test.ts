import { createLogger } from '../../platform/log';
import { listAuditEntries } from '../../platform/store/audit';
import { findEndpointEvenDeleted } from '../../platform/store/endpoints';
import { createResultGuard, type ResultGuard } from '../../workers/result-guard';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** An agent that floods everybody's queue with results that nobody asked for. */

const MB = 1024 * 1024;

let postgres: ScratchPostgres;
let revoked: string[];
let isAdminAway: boolean;
let guard: ResultGuard;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(() => {
  revoked = [];
  isAdminAway = false;
  guard = createResultGuard({
    db: postgres.db,
    log: createLogger('test', 'silent'),
    users: {
      revokeEndpoint: async (endpointId) => {
        if (isAdminAway) throw new Error('the broker does not answer');
        revoked.push(endpointId);
      },
    },
  });
});

const isLocked = async (endpointId: string): Promise<boolean> =>
  ((await findEndpointEvenDeleted(postgres.db, endpointId))?.lockedUntil?.getTime() ?? 0) > Date.now();

test('an agent that sends many bytes that nobody asked for is cut off, and an audit line says so', async () => {
  const { endpointId, ownerId } = await makeFixture(postgres.db);
  guard.note(endpointId, 20 * MB);
  expect(guard.drops(endpointId, 20 * MB)).toBe(false);
  guard.note(endpointId, 20 * MB);
  expect(guard.drops(endpointId, 20 * MB)).toBe(true);
  expect(guard.drops(endpointId, 1_000)).toBe(false); // results of its own tasks still count
  await until('its credentials are deleted', () => revoked.includes(endpointId));
  expect(await isLocked(endpointId)).toBe(true);
  const entries = await until('it is in the audit log', async () => {
    const found = await listAuditEntries(postgres.db, { identity: ownerId, limit: 10 });
    return found.length > 0 && found;
  });
  expect(entries).toMatchObject([{ action: 'send results', outcome: 'refused', objects: { endpoint: endpointId } }]);
});

test('other agents, and one that sends a little of it, go on', async () => {
  const [hostile, honest] = [await makeFixture(postgres.db), await makeFixture(postgres.db)];
  guard.note(honest.endpointId, 10 * MB);
  guard.note(hostile.endpointId, 40 * MB);
  await until('the hostile one is cut off', () => revoked.includes(hostile.endpointId));
  expect(guard.drops(honest.endpointId, 20 * MB)).toBe(false);
  expect(await isLocked(honest.endpointId)).toBe(false);
});

test('while the broker does not answer, its next message tries again', async () => {
  const { endpointId } = await makeFixture(postgres.db);
  isAdminAway = true;
  guard.note(endpointId, 40 * MB);
  await until('the first try failed', () => !guard.drops(endpointId, 20 * MB));
  isAdminAway = false;
  guard.note(endpointId, 1);
  await until('its credentials are deleted', () => revoked.includes(endpointId));
});
