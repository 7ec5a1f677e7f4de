import type { ActivityDeps } from '../../activities';
import type { Broker } from '../../broker';
import { createLogger } from '../../platform/log';
import { detectLosses } from '../../workers/loss-detector';
import { ResultsInHand } from '../../workers/results-in-hand';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, stateOf, submit } from '../helpers/store-fixture';

/** Which attempts count as lost. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

test('an attempt whose result is received and not stored yet is not lost', async () => {
  const fixture = await makeFixture(postgres.db);
  const { taskIds } = await submit(postgres.db, fixture, 2);
  await claim(postgres.db, fixture);
  const [received = '', lost = ''] = taskIds;
  await postgres.db.query(
    `update tasks set dispatched_at = now() - interval '1 hour', missing_since = now() - interval '1 hour' where id = any ($1)`,
    [taskIds],
  );
  const emptyQueues = { withChannel: async () => 0 } as unknown as Broker;
  const deps = {
    config: configFor(),
    log: createLogger('test', 'silent'),
    db: postgres.db,
    temporal: { nudge: async () => true },
  } as unknown as ActivityDeps;
  const inHand = new ResultsInHand();
  inHand.add(received);
  const beat = { endpointQueueId: fixture.endpointId, held: [], periodS: 5 };
  await detectLosses(emptyQueues, deps, inHand, beat);
  expect(await stateOf(postgres.db, received)).toBe('dispatched');
  expect(await stateOf(postgres.db, lost)).toBe('waiting');
  inHand.remove(received);
  await detectLosses(emptyQueues, deps, inHand, beat);
  expect(await stateOf(postgres.db, received)).toBe('waiting');
});
