import { randomUUID } from 'node:crypto';

import { asyncLocalStorage, type Context } from '@temporalio/activity';

import type { ActivityDeps } from '../../activities';
import { createSubmissionActivities } from '../../activities/submission';
import { firstClaimOf } from '../../accepting/claim-at-insert';
import { decodeBatch, isBatch } from '../../contracts/batches';
import { decodeFrame } from '../../contracts/frames';
import { PublishError } from '../../broker';
import type { EndpointInput } from '../../contracts/submission';
import { createLogger } from '../../platform/log';
import { askForPump, claimTasks } from '../../platform/store/claims';
import { openDatabase, type Database } from '../../platform/store/database';
import { LEASE_RENEWAL_MS, renewLease, sessionNameOf } from '../../platform/store/processes';
import { identityOf } from '../../platform/temporal';
import { startTakeover } from '../../workers/killed-processes';
import { configFor } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';
import { until } from '../helpers/until';

/** What a killed `api` had accepted and not dispatched, on the real database, with an own Temporal. */

/** A test looks at this many further reads of the sessions, for what must not happen. */
const READS = 12;
const BOUNDS = { tasks: 10, bytes: 10_000, inlineBytes: 10_000 };

const log = createLogger('test', 'silent');
let postgres: ScratchPostgres;
let endings: (() => unknown)[];
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(() => {
  endings = [];
});
afterEach(async () => {
  for (const end of endings.reverse()) await end();
  await postgres.db.query('update submissions set started_at = now(), finished_at = now()');
});

/** An `api` as the store sees it: it renews its lease over its own session. */
class Process {
  readonly id = randomUUID();
  readonly identity = identityOf(this.id);
  readonly #db: Database = openDatabase(postgres.url, 1, log, { sessionName: sessionNameOf(this.id) });
  #renewals: NodeJS.Timeout | undefined;

  async start(): Promise<this> {
    await renewLease(this.#db, this.id);
    this.#renewals = setInterval(() => void renewLease(this.#db, this.id).catch(() => undefined), LEASE_RENEWAL_MS);
    endings.push(() => this.die());
    return this;
  }

  /** Its session stays, as of a process that the operating system has stopped. */
  freeze(): void {
    clearInterval(this.#renewals);
  }

  async die(): Promise<void> {
    this.freeze();
    if (!this.#db.ended) await this.#db.end();
  }
}

interface Seen {
  /** The submissions whose workflow was started. */
  started: string[];
  /** The tasks that were published. */
  published: string[];
  /** The endpoint queues whose workflow was asked to pump. */
  pumped: string[];
  /** The queues that refused a message. */
  refused: string[];
  /** The workflows whose first task was asked for, each time. */
  asked: string[];
  reads: () => number;
  runFirstStep: (submission: AcceptedTask) => Promise<void>;
}

interface Faults {
  /** Temporal does not answer. */
  fails?: () => boolean;
  /** Messages to this queue are refused. */
  refuses?: (queue: string) => boolean;
  /** Messages to this queue are never confirmed. */
  hangs?: (queue: string) => boolean;
}

/** Takes over beside a Temporal where these processes have the first workflow tasks. */
async function takeOver(
  holders: Record<string, string | undefined>,
  { fails = () => false, refuses = () => false, hangs = () => false }: Faults = {},
): Promise<Seen> {
  const started: string[] = [];
  const published: string[] = [];
  const pumped: string[] = [];
  const refused: string[] = [];
  const asked: string[] = [];
  let reads = 0;
  const db = new Proxy(postgres.db, {
    get(target, key) {
      if (key !== 'query') return Reflect.get(target, key) as unknown;
      return (statement: string | { name: string }, ...rest: unknown[]) => {
        if (typeof statement !== 'string' && statement.name === 'list-processes') reads++;
        return (target.query as (...args: unknown[]) => unknown)(statement, ...rest);
      };
    },
  });
  const temporal = {
    async firstTaskOf(workflowId: string) {
      if (fails()) throw new Error('Temporal is away');
      asked.push(workflowId);
      return { isOver: false, holder: holders[workflowId] };
    },
    startSubmission: async ({ id }: { id: string }) => void started.push(id),
    signalWaiting: async (input: EndpointInput) => void pumped.push(input.taskQueueId),
  };
  const publisher = {
    isReady: true,
    requireFlowing: async () => undefined,
    isUnconfirmed: () => false,
    publish: async (_exchange: string, key: string, body: Uint8Array) => {
      if (hangs(key)) return new Promise<void>(() => undefined);
      if (refuses(key)) {
        refused.push(key);
        throw new PublishError('refused', 'the message broker refused the message');
      }
      const messages = isBatch(body) ? decodeBatch(body).map((part) => part.body) : [body];
      for (const message of messages) {
        const frame = decodeFrame(message);
        if (frame.message_type === 'task') published.push(frame.data.task_id);
      }
    },
  };
  const deps = { config: configFor(), db, log, temporal, publisher } as unknown as ActivityDeps;
  const takeover = startTakeover(deps, randomUUID());
  endings.push(() => takeover.close());
  await until('the sessions were read', () => reads > 1); // a process that was never seen is not missed
  const runFirstStep = async ({ id, endpointId }: AcceptedTask): Promise<void> => {
    const { dispatch } = createSubmissionActivities(deps);
    const ref = {
      submissionId: id,
      taskQueueId: endpointId,
      endpointId,
      endpointName: 'e',
      claimId: firstClaimOf(id),
      openBefore: 1,
    };
    await asyncLocalStorage.run({ info: { attempt: 1, isLocal: true } } as Context, () => dispatch(ref));
  };
  return { started, published, pumped, refused, asked, reads: () => reads, runFirstStep };
}

interface AcceptedTask {
  id: string;
  taskId: string;
  endpointId: string;
  workflowId: string;
}

/** One task that waits, at an endpoint of its own unless it is given. */
async function accepted(isStarted = true, { at, nowMs }: { at?: StoreFixture; nowMs?: number } = {}): Promise<AcceptedTask> {
  const fixture = at ?? (await makeFixture(postgres.db));
  const { submissionId, taskIds } = await submit(postgres.db, fixture, 1, nowMs === undefined ? {} : { nowMs });
  if (isStarted) await postgres.db.query('update submissions set started_at = now() where id = $1', [submissionId]);
  const workflowId = `submission/${submissionId}-f-on-e`;
  return { id: submissionId, taskId: taskIds[0]!, endpointId: fixture.endpointId, workflowId }; // one task, as asked for
}

/** As the first step of the workflow does. */
async function claim({ id, endpointId }: AcceptedTask): Promise<string[]> {
  const claimed = await claimTasks(postgres.db, endpointId, firstClaimOf(id), BOUNDS);
  return claimed.map((task) => task.id);
}

async function acceptedAndClaimed(): Promise<AcceptedTask> {
  const submission = await accepted();
  expect(await claim(submission)).toEqual([submission.taskId]);
  return submission;
}

test('what a killed process had not dispatched is dispatched within 2 s, and what others have is not', async () => {
  const [killed, other] = [await new Process().start(), await new Process().start()];
  const [held, dispatched, others] = [await acceptedAndClaimed(), await acceptedAndClaimed(), await acceptedAndClaimed()];
  const [waiting, unstarted] = [await accepted(), await accepted(false)];
  const { started, published, pumped, reads } = await takeOver({
    [held.workflowId]: killed.identity,
    [waiting.workflowId]: killed.identity,
    [dispatched.workflowId]: undefined,
    [others.workflowId]: other.identity,
  });
  await killed.die();
  const diedMs = Date.now();
  await until('it is dispatched', () => published.length > 0 && pumped.length > 0, { everyMs: 10 });
  expect(Date.now() - diedMs).toBeLessThan(2_000);
  expect(started).toEqual([unstarted.id]);
  const before = reads();
  await until('the sessions were read often', () => reads() > before + READS);
  expect(published).toEqual([held.taskId]);
  expect(pumped).toEqual([waiting.endpointId]);
});

test('what was dispatched for a killed process is not dispatched again by the first step that Temporal repeats', async () => {
  const killed = await new Process().start();
  const held = await acceptedAndClaimed();
  const { published } = await takeOver({ [held.workflowId]: killed.identity });
  await killed.die();
  await until('it is dispatched', () => published.length > 0);
  await until('its claim is settled', async () => (await claim(held)).length === 0);
  expect(published).toEqual([held.taskId]);
});

test('a pump that a killed process was about to request is requested', async () => {
  const killed = await new Process().start();
  const [asked, other] = [await accepted(), await accepted()];
  expect(await askForPump(postgres.db, asked.endpointId)).toBe(true); // as the process did before it was killed
  const { published, pumped } = await takeOver({});
  await killed.die();
  await until('the pump is requested', () => pumped.includes(asked.endpointId));
  expect(pumped).not.toContain(other.endpointId);
  expect(published).toEqual([]);
});

test('of several submissions, one that cannot be dispatched does not hold up the others, and is left to its workflow', async () => {
  const killed = await new Process().start();
  const [bad, good] = [await acceptedAndClaimed(), await acceptedAndClaimed()];
  const holders = { [bad.workflowId]: killed.identity, [good.workflowId]: killed.identity };
  const { published, refused, reads } = await takeOver(holders, { refuses: (key) => key.includes(bad.endpointId) });
  await killed.die();
  await until('the other is dispatched', () => published.includes(good.taskId));
  const before = reads();
  await until('the sessions were read often', () => reads() > before + READS);
  expect(published).toEqual([good.taskId]);
  expect(refused).toHaveLength(1);
});

test('a process is not taken for killed while it stands still, or when its sessions are replaced', async () => {
  const [frozen, reconnecting] = [await new Process().start(), await new Process().start()];
  const [first, second] = [await acceptedAndClaimed(), await acceptedAndClaimed()];
  const holders = { [first.workflowId]: frozen.identity, [second.workflowId]: reconnecting.identity };
  const { published, reads } = await takeOver(holders);
  frozen.freeze();
  const ended = 'select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1';
  await postgres.db.query(ended, [sessionNameOf(reconnecting.id)]);
  const before = reads();
  await until('the sessions were read often', () => reads() > before + READS);
  expect(published).toEqual([]);
});

test('what a killed process had begun is continued after Temporal was away, once', async () => {
  const killed = await new Process().start();
  const held = await acceptedAndClaimed();
  let isAway = true;
  let failures = 0;
  const fails = (): boolean => {
    if (isAway) failures++;
    return isAway;
  };
  const { published, reads } = await takeOver({ [held.workflowId]: killed.identity }, { fails });
  await killed.die();
  await until('the takeover has failed twice', () => failures === 2);
  expect(published).toEqual([]);
  isAway = false;
  await until('it is dispatched', () => published.length > 0);
  const before = reads();
  await until('the sessions were read often', () => reads() > before + READS);
  expect(published).toEqual([held.taskId]);
});

test('a submission whose start Temporal carried out after the process was killed is dispatched too', async () => {
  const killed = await new Process().start();
  const late = await acceptedAndClaimed();
  const holders: Record<string, string | undefined> = {};
  const { published, asked } = await takeOver(holders);
  await killed.die();
  await until('Temporal was asked', () => asked.includes(late.workflowId));
  holders[late.workflowId] = killed.identity;
  await until('it is dispatched', () => published.includes(late.taskId));
});

test('two replicas continue what a killed process had begun together once, and stop asking Temporal for it', async () => {
  const killed = await new Process().start();
  const [held, bad, other] = [await acceptedAndClaimed(), await acceptedAndClaimed(), await accepted()];
  const holders = { [held.workflowId]: killed.identity, [bad.workflowId]: killed.identity };
  const refuses = (key: string): boolean => key.includes(bad.endpointId);
  const replicas = [await takeOver(holders, { refuses }), await takeOver(holders, { refuses })];
  await killed.die();
  const published = (): string[] => replicas.flatMap((replica) => replica.published);
  const asked = (): number => replicas.flatMap((replica) => replica.asked).filter((id) => id === other.workflowId).length;
  const takenOverMs = async (): Promise<number> => {
    const { rows } = await postgres.db.query<{ ms: number }>(
      'select extract(epoch from taken_over_at - alive_at)::float8 * 1000 as ms from api_processes where id = $1',
      [killed.id],
    );
    return rows[0]?.ms ?? 0;
  };
  await until('it was checked long enough', async () => (await takenOverMs()) > 3_000);
  expect(published()).toEqual([held.taskId]);
  expect(replicas.flatMap((replica) => replica.refused)).toHaveLength(1); // a part of it may be at the broker
  const before = asked();
  expect(before).toBeLessThan(8); // not by each replica each time that it reads the sessions
  const [first] = replicas;
  const reads = first!.reads(); // two were started
  await until('the sessions were read often', () => first!.reads() > reads + READS);
  expect(asked()).toBe(before);
});

test('nobody else waits for a first step that Temporal repeats: it leaves the tasks of others to a pump', async () => {
  const { published, pumped, runFirstStep } = await takeOver({});
  const at = await makeFixture(postgres.db);
  const repeated = await accepted(true, { at, nowMs: Date.now() - 10_000 });
  const prompt = await accepted(true, { at });
  await runFirstStep(repeated);
  expect(published).toEqual([]);
  expect(pumped).toEqual([at.endpointId]);
  await runFirstStep(prompt);
  expect(published).toEqual([repeated.taskId, prompt.taskId]);

  const alone = await accepted(true, { nowMs: Date.now() - 10_000 });
  await runFirstStep(alone);
  expect(published).toContain(alone.taskId);
});

test('a replica that cannot reach Temporal does not keep another one from continuing what a killed process had begun', async () => {
  const killed = await new Process().start();
  const held = await acceptedAndClaimed();
  const holders = { [held.workflowId]: killed.identity };
  const replicas = [await takeOver(holders, { fails: () => true }), await takeOver(holders)];
  await killed.die();
  await until('it is dispatched', () => replicas.some(({ published }) => published.includes(held.taskId)));
});

test('a message that the broker never confirms holds up neither other submissions nor those of the next killed process', async () => {
  const [first, second] = [await new Process().start(), await new Process().start()];
  const [stuck, good, next] = [await acceptedAndClaimed(), await acceptedAndClaimed(), await acceptedAndClaimed()];
  const holders = {
    [stuck.workflowId]: first.identity,
    [good.workflowId]: first.identity,
    [next.workflowId]: second.identity,
  };
  const { published } = await takeOver(holders, { hangs: (key) => key.includes(stuck.endpointId) });
  await first.die();
  await until('the other is dispatched', () => published.includes(good.taskId));
  await second.die();
  await until('that of the next one is dispatched', () => published.includes(next.taskId));
  expect(published).toEqual([good.taskId, next.taskId]);
});
