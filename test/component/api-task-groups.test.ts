import { RetryableError } from '../../contracts/errors';
import { person, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** The tasks of a group for a client that comes back, while the broker is unavailable. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
let api: ApiHarness;
beforeAll(async () => {
  postgres = await startScratchPostgres();
  fixture = await makeFixture(postgres.db);
  const ensure = async (): Promise<void> => {
    throw new RetryableError('The message broker does not answer.');
  };
  const people = [person('owner', { id: fixture.ownerId })];
  api = await startApi({ db: postgres.db, people, deps: { groupQueues: { ensure } } });
}, 60_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
}, 30_000);

test.each(['single', 'batches'] as const)(
  'are listed for our client, which reads the store, if the group has the queue %s',
  async (queue) => {
    const { groupId, taskIds } = await submit(postgres.db, fixture, 2, { queue });
    const { status, body } = await api.request('owner', 'GET', `/v2/taskgroup/${groupId}?queue=batches`);
    expect({ status, tasks: (body as { tasks: { id: string }[] }).tasks.map(({ id }) => id) }).toEqual({
      status: 200,
      tasks: taskIds,
    });
  },
);

test('are refused to a stock client that needs another queue, with the time to ask again', async () => {
  const { groupId } = await submit(postgres.db, fixture, 1, { queue: 'batches' });
  expect(await api.request('owner', 'GET', `/v2/taskgroup/${groupId}`)).toMatchObject({
    status: 503,
    body: { code: 'UNAVAILABLE' },
  });
});
