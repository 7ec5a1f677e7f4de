import { createAccept } from '../../accepting/accept';
import { createQuotas } from '../../accepting/quotas';
import { createRepeats, type Repeats } from '../../api/repeats';
import { createLogger } from '../../platform/log';
import type { Temporal } from '../../platform/temporal';
import { configFor, person, startApi, type Answer, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';
import { lostOnTheWay, neverSent, unreliable, type Accident } from '../helpers/unreliable-store';

/**
 * The store dies after it stored a request and before it said so. Clients repeat a request that failed, and their tasks run once.
 * The store is a real one; what it says to one statement is lost on the way.
 */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const log = createLogger('test', 'silent');
const config = configFor();
const PAYLOAD = '28\n00\ngASVBgAAAAAAAABNgAOFlC4=\n12\n00\ngAR9lC4=\n';
const INSERTS = ['insert-submission', 'insert-shared'];

let fixture: StoreFixture;
let running: { api: ApiHarness; repeats: Repeats }[];
/** What happens to the next statement that stores a request. */
let accident: Accident | undefined;
let listeners = 0;

beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
  running = [];
  accident = undefined;
});
afterEach(async () => {
  for (const { api, repeats } of running) {
    repeats.close();
    await api.close();
  }
});

/** A process of `api`. */
async function start(): Promise<ApiHarness> {
  const db = unreliable(postgres.db, (statement) => {
    if (!INSERTS.includes(statement)) return undefined;
    const meets = accident;
    accident = undefined;
    return meets;
  });
  const repeats = createRepeats(db, log);
  await repeats.takeOver(`test ${listeners++}`);
  const accept = createAccept({
    config,
    log,
    db,
    temporal: { startSubmission: async () => ({ wasEager: false }) } as unknown as Temporal,
    groupQueues: { ensure: async () => undefined },
    quotas: createQuotas(db, config),
  });
  const api = await startApi({ db, people: [person('owner', { id: fixture.ownerId })], config, deps: { accept, repeats } });
  running.push({ api, repeats });
  return api;
}

interface Route {
  path(): string;
  body(): object;
  idsOf(answer: Answer): string[];
}
const ROUTES: Record<string, Route> = {
  'a table of tasks': {
    path: () => `/v3/endpoints/${fixture.endpointId}/submit`,
    body: () => ({ tasks: { [fixture.functionId]: [PAYLOAD] } }),
    idsOf: ({ body }) => (body as { tasks: Record<string, string[]> }).tasks[fixture.functionId] ?? [],
  },
  'a list of tasks': {
    path: () => '/v2/submit',
    body: () => ({ tasks: [[fixture.functionId, fixture.endpointId, PAYLOAD]] }),
    idsOf: ({ body }) => (body as { results: { task_uuid: string }[] }).results.map((one) => one.task_uuid),
  },
};

const submit = (api: ApiHarness, { path, body }: Route): Promise<Answer> => api.request('owner', 'POST', path(), body());

async function storedTasks(): Promise<string[]> {
  const { rows } = await postgres.db.query<{ id: string }>('select id from tasks where owner_id = $1', [fixture.ownerId]);
  return rows.map(({ id }) => id);
}

describe.each(Object.entries(ROUTES))('%s whose commit was not confirmed', (_, route) => {
  test('is stored once: its repeat gets the tasks of the first request, and an equal request after that new ones', async () => {
    const api = await start();
    accident = lostOnTheWay;
    expect((await submit(api, route)).status).toBeGreaterThanOrEqual(500);
    const repeated = await submit(api, route);
    expect(repeated.status).toBe(200);
    expect(await storedTasks()).toEqual(route.idsOf(repeated));
    const equal = await submit(api, route);
    expect(route.idsOf(equal)).not.toEqual(route.idsOf(repeated));
    expect(await storedTasks()).toHaveLength(2);
  });

  test('is stored once when another process gets the repeat', async () => {
    const [first, other] = [await start(), await start()];
    accident = lostOnTheWay;
    expect((await submit(first, route)).status).toBeGreaterThanOrEqual(500);
    const repeated = await submit(other, route);
    expect(await storedTasks()).toEqual(route.idsOf(repeated));
  });

  test('is stored once when its statement reaches the store after the repeat', async () => {
    const api = await start();
    let late: Promise<unknown> | undefined;
    let release: () => void = () => undefined;
    const isReleased = new Promise<void>((resolve) => (release = resolve));
    accident = async (run) => {
      late = isReleased.then(run).catch((error: unknown) => error);
      throw new Error('Query read timeout');
    };
    expect((await submit(api, route)).status).toBeGreaterThanOrEqual(500);
    const repeated = await submit(api, route);
    release();
    await until('the late statement has ended', () => late !== undefined);
    expect(await late).toMatchObject({ code: '23505' });
    expect(await storedTasks()).toEqual(route.idsOf(repeated));
  });

  test('is new when nothing of it was stored', async () => {
    const api = await start();
    accident = neverSent;
    expect((await submit(api, route)).status).toBeGreaterThanOrEqual(500);
    const repeated = await submit(api, route);
    expect(await storedTasks()).toEqual(route.idsOf(repeated));
  });
});
