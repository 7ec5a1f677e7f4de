import type { ActivityDeps } from '../../activities';
import { PublishError } from '../../broker';
import { decodeBatch, isBatch } from '../../contracts/batches';
import { groupBatchQueueName } from '../../contracts/names';
import type { SubmissionStart } from '../../contracts/submission';
import { createLogger } from '../../platform/log';
import { storeAnswers } from '../../platform/store/answers';
import type { Temporal } from '../../platform/temporal';
import { startSweep } from '../../workers/sweep';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';
import { claim, frame, makeFixture, openOf, stateOf, submit, type StoreFixture } from '../helpers/store-fixture';

/** What the sweep does about rows that others left behind, on the real database, with an own Temporal and an own broker. */

/** A test looks at this many further runs of the sweep, for what must not happen. */
const RUNS = 3;
const HIGHEST_GROUP = 'ffffffff-ffff-4fff-bfff-ffffffffffff';

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db, { window: 50_000 });
});
// The sweep of the next test would find the rows of this one.
afterEach(async () => {
  await postgres.db.query('update tasks set delivered_at = now() where answered_at is not null and delivered_at is null');
  await postgres.db.query('update submissions set started_at = now(), finished_at = now()');
});

/** Temporal as the sweep sees it. */
class FakeTemporal {
  readonly started: SubmissionStart[] = [];
  readonly nudged: string[] = [];
  inProgress = 0;
  /** While set, a start waits. */
  gate: Promise<void> | undefined;
  onStart: () => void = () => undefined;
  constructor(readonly state: Awaited<ReturnType<Temporal['stateOfSubmission']>> = 'running') {}

  async startSubmission(start: SubmissionStart): Promise<{ wasEager: boolean }> {
    this.inProgress++;
    this.started.push(start);
    this.onStart();
    await this.gate;
    this.inProgress--;
    return { wasEager: false };
  }

  async nudge(workflowId: string): Promise<boolean> {
    this.nudged.push(workflowId);
    return this.state === 'running';
  }

  stateOfSubmission = async (): Promise<FakeTemporal['state']> => this.state;
}

interface Attempt {
  queue: string;
  answers: number;
}

interface Statement {
  name: string;
  text: string;
  values: unknown[];
}

interface Seen {
  /** The messages that the sweep publishes, also the refused ones. */
  attempts: Attempt[];
  /** How often it listed the submissions that were never started: once in a run, or once more in a run that starts some. */
  listings: () => number;
  /** Its statements that have a name. */
  statements: Map<string, Statement>;
}

async function whileSweeping(
  temporal: FakeTemporal,
  use: (seen: Seen) => Promise<unknown>,
  { refuses = () => false }: { refuses?: (queue: string) => boolean } = {},
): Promise<void> {
  const attempts: Attempt[] = [];
  const statements = new Map<string, Statement>();
  let listings = 0;
  const db = new Proxy(postgres.db, {
    get(target, key) {
      if (key !== 'query') return Reflect.get(target, key) as unknown;
      return (statement: string | Statement, ...rest: unknown[]) => {
        if (typeof statement !== 'string') statements.set(statement.name, statement);
        else if (statement.includes('s.started_at is null')) listings++;
        return (target.query as (...args: unknown[]) => unknown)(statement, ...rest);
      };
    },
  });
  const publisher = {
    isBlocked: false,
    requireFlowing: async () => undefined,
    isUnconfirmed: () => false,
    publish: async (_exchange: string, queue: string, body: Uint8Array) => {
      attempts.push({ queue, answers: isBatch(body) ? decodeBatch(body).length : 1 });
      if (refuses(queue)) throw new PublishError('refused', 'the message broker refused the message');
    },
  };
  const deps = { db, log: createLogger('test', 'silent'), publisher, temporal } as unknown as ActivityDeps;
  const sweep = startSweep(deps);
  try {
    await use({ attempts, listings: () => listings, statements });
  } finally {
    await sweep.close();
  }
}

/** Submits tasks of one group, and stores answers that were published by nobody a minute ago. */
async function submitUndelivered(tasks: number, groupId?: string): Promise<{ groupId: string; taskIds: string[] }> {
  const submitted = await submit(postgres.db, fixture, tasks, { queue: 'batches', ...(groupId ? { groupId } : {}) });
  const answers = submitted.taskIds.map((taskId) => ({ taskId, state: 'succeeded' as const, frame: frame(taskId) }));
  for (let at = 0; at < tasks; at += 1_000) await storeAnswers(postgres.db, answers.slice(at, at + 1_000));
  await postgres.db.query(`update tasks set answered_at = now() - interval '1 minute' where id = any ($1)`, [submitted.taskIds]);
  await postgres.db.query('update submissions set started_at = now(), finished_at = now() where id = $1', [
    submitted.submissionId,
  ]);
  return submitted;
}

async function untilDelivered(taskIds: readonly string[]): Promise<void> {
  await until('the answers are marked as delivered', async () => {
    const { rows } = await postgres.db.query('select 1 from tasks where id = any ($1) and delivered_at is null limit 1', [
      taskIds,
    ]);
    return rows.length === 0;
  });
}

const queueOf = (groupId: string): string => groupBatchQueueName(fixture.ownerId, groupId);

test.each([
  ['undelivered answers', 'list-undelivered-groups', 'task_group_id_answered_at_idx'],
  ['retries that are due', 'list-overdue-submissions', 'due_at_idx'],
])('a sweep finds %s by a partial index', async (_what, name, index) => {
  await whileSweeping(new FakeTemporal(), async ({ statements }) => {
    const { text, values } = await until('the sweep has run', () => statements.get(name));
    const client = await postgres.db.connect();
    try {
      await client.query('set enable_seqscan = off');
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${text}`, values);
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(plan).toContain(index);
      expect(plan).not.toContain('Seq Scan on tasks');
    } finally {
      client.release(true); // its settings are its own
    }
  });
});

describe('undelivered answers', () => {
  test('more than 10,000 answers that a queue refuses keep no answer of another group waiting', async () => {
    const refusing = await submitUndelivered(5_000);
    await submitUndelivered(5_000, refusing.groupId);
    await submitUndelivered(500, refusing.groupId);
    const healthy = await submitUndelivered(1);
    const refuses = (queue: string): boolean => queue === queueOf(refusing.groupId);
    await whileSweeping(new FakeTemporal(), () => untilDelivered(healthy.taskIds), { refuses });
  }, 120_000);

  test('a group whose queue refuses answers costs the sweep one message in each run', async () => {
    const refusing = await submitUndelivered(1_000);
    const refuses = (queue: string): boolean => queue === queueOf(refusing.groupId);
    await whileSweeping(
      new FakeTemporal(),
      async ({ attempts }) => {
        const singles = (): Attempt[] => attempts.filter(({ answers }) => answers === 1);
        await until('the queue was tried in several runs', () => singles().length >= RUNS);
        const tried = attempts.reduce((sum, { answers }) => sum + answers, 0);
        expect(tried - singles().length).toBeLessThanOrEqual(200); // one batch, before the queue had refused anything
      },
      { refuses },
    );
  });

  test('the answers of a group are all delivered once its queue accepts them', async () => {
    const { groupId, taskIds } = await submitUndelivered(1_000);
    let isRefusing = true;
    await whileSweeping(
      new FakeTemporal(),
      async ({ attempts }) => {
        await until('the queue was tried again', () => attempts.some(({ answers }) => answers === 1));
        isRefusing = false;
        await untilDelivered(taskIds);
      },
      { refuses: (queue) => isRefusing && queue === queueOf(groupId) },
    );
  });

  test('the sweep continues behind the groups of its last run', async () => {
    const { taskIds } = await submitUndelivered(1_100);
    // Each answer gets a group of its own.
    await postgres.db.query(
      `with groups as (
         insert into task_groups (id, owner_id, has_batch_queue)
           select (left(md5(id::text), 31) || '0')::uuid, $2, true from unnest($1::uuid[]) id)
       update tasks set task_group_id = (left(md5(id::text), 31) || '0')::uuid where id = any ($1)`,
      [taskIds, fixture.ownerId],
    );
    await postgres.db.query("update results set task_group_id = (left(md5(id::text), 31) || '0')::uuid where id = any ($1)", [
      taskIds,
    ]);
    const last = await submitUndelivered(1, HIGHEST_GROUP);
    const refuses = (queue: string): boolean => queue !== queueOf(HIGHEST_GROUP);
    await whileSweeping(new FakeTemporal(), () => untilDelivered(last.taskIds), { refuses });
  });
});

describe('submissions that were never started', () => {
  const SUBMISSIONS = 300;

  async function submitUnstarted(): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 0; n < SUBMISSIONS; n++) ids.push((await submit(postgres.db, fixture, 1)).submissionId);
    await postgres.db.query(`update submissions set created_at = created_at - interval '1 minute' where id = any ($1)`, [ids]);
    return ids;
  }

  test('are all started by one run, many at a time, and undelivered answers do not wait for them', async () => {
    const ids = await submitUnstarted();
    const { taskIds } = await submitUndelivered(1);
    const temporal = new FakeTemporal();
    let open: () => void = () => undefined;
    temporal.gate = new Promise((resolve) => (open = resolve));
    const listed = new Set<number>();
    await whileSweeping(temporal, async ({ listings }) => {
      temporal.onStart = () => listed.add(listings());
      await until('many starts are in progress', () => temporal.inProgress > 20);
      await untilDelivered(taskIds);
      open();
      await until('all are started', () => temporal.started.length >= SUBMISSIONS);
    });
    expect([...listed]).toEqual([1]);
    expect(temporal.started.map(({ id }) => id).sort()).toEqual([...ids].sort());
  });

  test('are started in another order by each replica', async () => {
    await submitUnstarted();
    const replicas = [new FakeTemporal(), new FakeTemporal()];
    let open: () => void = () => undefined;
    for (const replica of replicas) replica.gate = new Promise((resolve) => (open = chained(open, resolve)));
    const [one, other] = replicas as [FakeTemporal, FakeTemporal];
    await whileSweeping(one, () =>
      whileSweeping(other, async () => {
        await until('both are starting', () => replicas.every(({ inProgress }) => inProgress > 20));
        const first = new Set(one.started.map(({ id }) => id));
        expect(other.started.filter(({ id }) => first.has(id)).length).toBeLessThan(20);
        open();
      }),
    );
  });

  const chained =
    (first: () => void, second: () => void): (() => void) =>
    () => {
      first();
      second();
    };
});

describe('submissions that are overdue', () => {
  async function submitStarted(): Promise<{ submissionId: string; taskId: string; workflowId: string }> {
    const { submissionId, taskIds } = await submit(postgres.db, fixture, 1);
    await postgres.db.query('update submissions set started_at = now() where id = $1', [submissionId]);
    return { submissionId, taskId: taskIds[0]!, workflowId: `submission/${submissionId}-f-on-e` }; // one task, as asked for
  }

  /** A submission whose only task failed and waits for a retry that was due a minute ago. */
  async function submitDelayed(dueS = -60): ReturnType<typeof submitStarted> {
    const started = await submitStarted();
    await claim(postgres.db, fixture);
    const failure = { taskId: started.taskId, endpointQueueId: fixture.endpointId, attempt: 1, frame: frame(started.taskId) };
    await storeAnswers(postgres.db, [{ ...failure, state: 'failed', retryMs: 1_000 }]);
    await postgres.db.query(`update tasks set due_at = now() + $2 * interval '1 second' where id = $1`, [started.taskId, dueS]);
    expect(await stateOf(postgres.db, started.taskId)).toBe('delayed');
    return started;
  }

  async function submitPastDeadline(): ReturnType<typeof submitStarted> {
    const started = await submitStarted();
    await postgres.db.query(`update submissions set deadline_at = now() - interval '1 minute' where id = $1`, [
      started.submissionId,
    ]);
    return started;
  }

  async function submissionState(submissionId: string): Promise<string> {
    const { rows } = await postgres.db.query<{ state: string; is_finished: boolean }>(
      'select state, finished_at is not null as is_finished from submissions where id = $1',
      [submissionId],
    );
    return rows[0]!.is_finished ? rows[0]!.state : 'open'; // the test made it
  }

  test('a workflow that slept through a retry because its nudge was lost is nudged again', async () => {
    const { workflowId } = await submitDelayed();
    const later = await submitDelayed(3_600);
    const temporal = new FakeTemporal('running');
    await whileSweeping(temporal, () => until('the workflow is nudged', () => temporal.nudged.includes(workflowId)));
    expect(temporal.nudged).not.toContain(later.workflowId);
    expect(temporal.started).toEqual([]);
  });

  test.each([
    ['a retry that is due', () => submitDelayed()],
    ['a deadline that passed', () => submitPastDeadline()],
  ])('a submission with %s whose workflow does not exist is started again under the same ID', async (_what, make) => {
    const { submissionId, workflowId } = await make();
    const temporal = new FakeTemporal('missing');
    await whileSweeping(temporal, () => until('it is started', () => temporal.started.length > 0));
    expect(temporal.started[0]).toMatchObject({ id: submissionId, workflowId });
  });

  test.each(['ended', 'terminated'] as const)(
    'a submission past its deadline whose workflow has %s ends as cancelled',
    async (state) => {
      const { submissionId, taskId } = await submitPastDeadline();
      await whileSweeping(new FakeTemporal(state), async () => {
        await until('the submission has ended', async () => (await submissionState(submissionId)) === 'cancelled');
      });
      expect(await stateOf(postgres.db, taskId)).toBe('cancelled');
      expect(await openOf(postgres.db, submissionId)).toBe(0);
    },
  );

  test('a submission whose workflow a person terminated ends as cancelled and is never started again', async () => {
    const delayed = await submitDelayed();
    const overdue = await submitPastDeadline();
    const temporal = new FakeTemporal('terminated');
    await whileSweeping(temporal, async ({ listings }) => {
      for (const { submissionId } of [delayed, overdue]) {
        await until('the submission has ended', async () => (await submissionState(submissionId)) === 'cancelled');
      }
      const runs = listings() + RUNS;
      await until('the sweep ran again', () => listings() >= runs);
    });
    expect(await stateOf(postgres.db, delayed.taskId)).toBe('cancelled');
    expect(temporal.started).toEqual([]);
  });

  test('a submission whose tasks are all answered is nudged, and ends as done if its workflow has ended', async () => {
    const { submissionId, taskId, workflowId } = await submitStarted();
    await storeAnswers(postgres.db, [{ taskId, state: 'succeeded', frame: frame(taskId) }]);
    const temporal = new FakeTemporal('ended');
    await whileSweeping(temporal, async () => {
      await until('the submission has ended', async () => (await submissionState(submissionId)) === 'done');
    });
    expect(temporal.nudged).toContain(workflowId);
  });
});
