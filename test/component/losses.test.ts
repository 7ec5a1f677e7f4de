import type { ActivityDeps } from '../../activities';
import { BrokerRefusal, type Broker, type BrokerChannel } from '../../broker';
import { createLogger } from '../../platform/log';
import { detectLosses } from '../../workers/loss-detector';
import { ResultsInHand } from '../../workers/results-in-hand';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, stateOf, submit, type StoreFixture } from '../helpers/store-fixture';

/** Which attempts count as lost. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

test('an attempt whose result is received and not stored yet is not lost', async () => {
  const fixture = await makeFixture(postgres.db);
  const [received = '', lost = ''] = await submitMissing(fixture, 2);
  const inHand = new ResultsInHand();
  inHand.add(received);
  await heartbeat(fixture, EMPTY, inHand);
  expect(await stateOf(postgres.db, received)).toBe('dispatched');
  expect(await stateOf(postgres.db, lost)).toBe('waiting');
  inHand.remove(received);
  await heartbeat(fixture, EMPTY, inHand);
  expect(await stateOf(postgres.db, received)).toBe('waiting');
});

test.each([
  ['does not know how many messages a queue holds', (): QueueReport => ({ messageCount: 0, consumerCount: 0 })],
  ['holds messages for the agent', (): QueueReport => ({ messageCount: 1, consumerCount: 1 })],
  ['cannot reach a queue that crashed', (): QueueReport => refuse(`queue 'q' in vhost 'v' has crashed and failed to restart`)],
])('an attempt is not lost while the broker %s', async (_what, report) => {
  const fixture = await makeFixture(postgres.db);
  const [taskId = ''] = await submitMissing(fixture, 1);
  await heartbeat(fixture, report).catch((error: unknown) => expect(error).toBeInstanceOf(BrokerRefusal));
  expect(await stateOf(postgres.db, taskId)).toBe('dispatched');
});

test('an attempt is lost when its queue does not exist any more', async () => {
  const fixture = await makeFixture(postgres.db);
  const [taskId = ''] = await submitMissing(fixture, 1);
  await heartbeat(fixture, () => refuse(`no queue 'q' in vhost 'v'`));
  expect(await stateOf(postgres.db, taskId)).toBe('waiting');
});

test.each([
  ['lost after 30 s while its agent runs on', '1 hour', '31 s', 'waiting'],
  ['not lost within 30 s while its agent runs on', '1 hour', '29 s', 'dispatched'],
  ['lost after one and a half periods when another agent runs', '5 s', '8 s', 'waiting'],
  ['not lost within one and a half periods when another agent runs', '5 s', '7 s', 'dispatched'],
])('a missing attempt is %s', async (_what, agentAge, missingFor, state) => {
  const fixture = await makeFixture(postgres.db);
  const [taskId = ''] = await submitMissing(fixture, 1);
  await postgres.db.query(
    `with q as (update endpoint_queues set incarnation_since = now() - $2::interval where id = $3)
     update tasks set dispatched_at = now() - interval '1 minute', missing_since = now() - $4::interval where id = $1`,
    [taskId, agentAge, fixture.endpointId, missingFor],
  );
  await heartbeat(fixture, EMPTY);
  expect(await stateOf(postgres.db, taskId)).toBe(state);
});

interface QueueReport {
  messageCount: number;
  consumerCount: number;
}

const EMPTY = (): QueueReport => ({ messageCount: 0, consumerCount: 1 });

function refuse(text: string): never {
  throw new BrokerRefusal(404, new Error(`Operation failed: QueueDeclare; 404 (NOT-FOUND) with message "NOT_FOUND - ${text}"`));
}

/** Attempts that were dispatched long ago and that the last heartbeats did not name. */
async function submitMissing(fixture: StoreFixture, tasks: number): Promise<string[]> {
  const { taskIds } = await submit(postgres.db, fixture, tasks);
  await claim(postgres.db, fixture);
  await postgres.db.query(
    `update tasks set dispatched_at = now() - interval '1 hour', missing_since = now() - interval '1 hour' where id = any ($1)`,
    [taskIds],
  );
  return taskIds;
}

/** A heartbeat of an agent that holds nothing, while the broker reports each queue like this. */
async function heartbeat(fixture: StoreFixture, report: () => QueueReport, inHand = new ResultsInHand()): Promise<void> {
  const channel = { checkQueue: async () => report() } as unknown as BrokerChannel;
  const broker = { withChannel: (use: (channel: BrokerChannel) => Promise<unknown>) => use(channel) } as unknown as Broker;
  const deps = {
    config: configFor(),
    log: createLogger('test', 'silent'),
    db: postgres.db,
    temporal: { nudge: async () => true },
  } as unknown as ActivityDeps;
  await detectLosses(broker, deps, inHand, { endpointQueueId: fixture.endpointId, held: [], periodS: 5 });
}
