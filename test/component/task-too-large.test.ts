import type { ActivityDeps } from '../../activities';
import { dispatchClaim } from '../../activities/publish-tasks';
import { createLogger } from '../../platform/log';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { inFlight, makeFixture, stateOf, submit } from '../helpers/store-fixture';

/** Tasks for an agent that takes its code and its arguments in the message only. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

test('a task that no message can hold fails and says why, and the one beside it is sent', async () => {
  const fixture = await makeFixture(postgres.db);
  const published: string[] = [];
  const deps = {
    config: configFor({ FUNCX_MAX_MESSAGE_BYTES: '4000', FUNCX_INLINE_BODY_BYTES: '1000' }),
    log: createLogger('test', 'silent'),
    db: postgres.db,
    publisher: { isReady: true, publish: async (_: string, queue: string) => void published.push(queue) },
    temporal: { nudge: async () => true },
  } as unknown as ActivityDeps;
  await postgres.db.query('update functions set code = $2 where id = $1', [fixture.functionId, 'x'.repeat(3_500)]);
  const [small = ''] = (await submit(postgres.db, fixture, 1)).taskIds;
  const [large = ''] = (await submit(postgres.db, fixture, 1, { payload: 'y'.repeat(900) })).taskIds;
  expect((await dispatchClaim(deps, fixture.endpointId, 'claim', { isRepeated: false })).sort()).toEqual([small, large].sort());
  // The other message tells the agent that the task has ended.
  expect(published.map((queue) => queue.split('.').at(-1))).toEqual(['tasks', 'commands']);
  expect([await stateOf(postgres.db, small), await stateOf(postgres.db, large)]).toEqual(['dispatched', 'failed']);
  const { rows } = await postgres.db.query<{ answer: string }>(
    `select convert_from(substring(frame from 2), 'UTF8') as answer from results where id = $1`,
    [large],
  );
  expect(rows[0]?.answer).toMatch(/InvalidTask.*takes 4000|takes 4000.*InvalidTask/s);
  expect(await inFlight(postgres.db, fixture)).toEqual({ counted: 1, found: 1 });
});
