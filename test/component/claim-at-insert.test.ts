import { createAccept } from '../../accepting/accept';
import { createFreshSubmissions } from '../../accepting/fresh-submissions';
import { createQuotas } from '../../accepting/quotas';
import { createLogger } from '../../platform/log';
import type { Temporal } from '../../platform/temporal';
import { configFor, person, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, stateOf, type StoreFixture } from '../helpers/store-fixture';

/** The insert claims the tasks of small requests. Each message also has the code of the function. */

const PAYLOAD = '28\n00\ngASVBgAAAAAAAABNgAOFlC4=\n12\n00\ngAR9lC4=\n';

let postgres: ScratchPostgres;
let fixture: StoreFixture;
let api: ApiHarness;

beforeAll(async () => {
  postgres = await startScratchPostgres();
  fixture = await makeFixture(postgres.db);
  const config = configFor();
  const accept = createAccept({
    config,
    log: createLogger('test', 'silent'),
    db: postgres.db,
    temporal: { startSubmission: async () => ({ wasEager: true }) } as unknown as Temporal,
    groupQueues: { ensure: async () => undefined },
    quotas: createQuotas(postgres.db, config),
    fresh: createFreshSubmissions(() => true),
  });
  api = await startApi({ db: postgres.db, people: [person('owner', { id: fixture.ownerId })], config, deps: { accept } });
}, 60_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
}, 30_000);

test.each([
  ['small', 'dispatched'],
  ['of 1 MB', 'waiting'],
])('a single call of a function whose code is %s is %s after the insert', async (size, state) => {
  if (size !== 'small') {
    await postgres.db.query(`update functions set code = decode(repeat('20', 1000000), 'hex') where id = $1`, [
      fixture.functionId,
    ]);
  }
  const { status, body } = await api.request('owner', 'POST', `/v3/endpoints/${fixture.endpointId}/submit`, {
    tasks: { [fixture.functionId]: [PAYLOAD] },
  });
  expect(status).toBe(200);
  const [taskId] = (body as { tasks: Record<string, string[]> }).tasks[fixture.functionId] ?? [];
  expect(await stateOf(postgres.db, taskId!)).toBe(state);
});
