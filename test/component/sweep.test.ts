import type { ActivityDeps } from '../../activities';
import { PublishError } from '../../broker';
import { decodeBatch, isBatch } from '../../contracts/batches';
import { groupBatchQueueName } from '../../contracts/names';
import { submissionInputOf, type SubmissionStart } from '../../contracts/submission';
import { createLogger } from '../../platform/log';
import { storeAnswers } from '../../platform/store/answers';
import type { Database } from '../../platform/store/database';
import { runExclusively } from '../../platform/store/maintenance';
import { partitionName } from '../../platform/store/partitions';
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
  /** In which of its runs the sweep made the attempt. */
  run: number;
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
  let run = 0;
  const db = new Proxy(postgres.db, {
    get(target, key) {
      if (key !== 'query') return Reflect.get(target, key) as unknown;
      return (statement: string | Statement, ...rest: unknown[]) => {
        if (typeof statement !== 'string') {
          statements.set(statement.name, statement);
          if (statement.name === 'list-undelivered-groups') run++;
        } else if (statement.includes('s.started_at is null')) listings++;
        return (target.query as (...args: unknown[]) => unknown)(statement, ...rest);
      };
    },
  });
  const publisher = {
    isBlocked: false,
    requireFlowing: async () => undefined,
    isUnconfirmed: () => false,
    publish: async (_exchange: string, queue: string, body: Uint8Array) => {
      attempts.push({ queue, answers: isBatch(body) ? decodeBatch(body).length : 1, run });
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
async function submitUndelivered(
  tasks: number,
  groupId?: string,
  data?: string,
): Promise<{ groupId: string; taskIds: string[] }> {
  const submitted = await submit(postgres.db, fixture, tasks, { queue: 'batches', ...(groupId ? { groupId } : {}) });
  const answers = submitted.taskIds.map((taskId) => ({ taskId, state: 'succeeded' as const, frame: frame(taskId, data) }));
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

describe('as the statistics were made while nothing was left behind', () => {
  /** The plan of a statement of the sweep among many rows that it does not look for. */
  async function explained(name: string, options: string, leaveBehind: string): Promise<string> {
    let statement: Statement | undefined;
    await whileSweeping(new FakeTemporal(), async ({ statements }) => {
      statement = await until('the sweep has run', () => statements.get(name));
    });
    const { text, values } = statement!; // the sweep has run
    const { taskIds } = await submitUndelivered(5_000);
    await postgres.db.query('update tasks set delivered_at = now() where answered_at is not null');
    await postgres.db.query('vacuum analyze tasks');
    await postgres.db.query(`${leaveBehind} where id = any ($1)`, [taskIds]);
    const client = await postgres.db.connect();
    try {
      await client.query('set plan_cache_mode = force_generic_plan');
      await client.query({ name: 'swept', text, values });
      const literals = values.map((value) =>
        value === null ? 'null' : client.escapeLiteral((value as string | number).toString()),
      );
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${options} execute swept (${literals.join(', ')})`);
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    } finally {
      client.release(true); // its settings are its own
    }
  }

  test('the groups with undelivered answers are listed without reading all these answers for each group', async () => {
    const fiftyGroups = `update tasks set delivered_at = null, task_group_id = md5((get_byte(uuid_send(id), 15) % 50)::text)::uuid`;
    const plan = await explained('list-undelivered-groups', '(analyze, buffers)', fiftyGroups);
    const [, hit] = /shared hit=(\d+)/.exec(plan) ?? [];
    expect(Number(hit)).toBeLessThan(3_000);
  });

  test('a sweep finds retries that are due by their index', async () => {
    const plan = await explained('list-overdue-submissions', '', `update tasks set state = 'delayed', due_at = now()`);
    const filled = partitionName('tasks', Date.now());
    expect(plan).toContain(`${filled}_due_at_idx`);
    expect(plan).not.toContain(`Seq Scan on ${filled}`);
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
        const inRun = (run: number): number[] => attempts.flatMap((one) => (one.run === run ? [one.answers] : []));
        await until('the queue was tried in several runs', () => inRun(2 + RUNS).length > 0);
        expect(inRun(1).reduce((sum, answers) => sum + answers, 0)).toBeLessThanOrEqual(200); // nothing was known about the queue
        for (let run = 2; run < 2 + RUNS; run++) expect(inRun(run)).toEqual([1]);
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

  test('are delivered once by two replicas', async () => {
    const { taskIds } = await submitUndelivered(1_000);
    await whileSweeping(new FakeTemporal(), (one) =>
      whileSweeping(new FakeTemporal(), async (other) => {
        await untilDelivered(taskIds);
        const delivered = [...one.attempts, ...other.attempts].reduce((sum, { answers }) => sum + answers, 0);
        expect(delivered).toBe(1_000);
      }),
    );
  });

  test('are delivered by the other replica when one is frozen', async () => {
    const { taskIds } = await submitUndelivered(1);
    let resume: () => void = () => undefined;
    const frozen = new Promise<void>((resolve) => (resume = resolve));
    // A frozen process sends nothing, so it does not renew its lock either.
    const client = await postgres.db.connect();
    const query = (text: string, values?: unknown[]): unknown => (text === 'select 1' ? frozen : client.query(text, values));
    const db = { connect: async () => ({ query, release: (error: boolean) => client.release(error) }) };
    let isHeld = false;
    const holding = runExclusively(db as unknown as Database, 'delivery', () => ((isHeld = true), frozen));
    await until('the frozen process delivers', () => isHeld);
    await whileSweeping(new FakeTemporal(), () => untilDelivered(taskIds));
    resume();
    await expect(holding).rejects.toThrow();
  });

  test('are no longer delivered by a replica that lost the connection of its lock', async () => {
    let signal: AbortSignal | undefined;
    let end: () => void = () => undefined;
    const holding = runExclusively(postgres.db, 'delivery', async (lost) => {
      signal = lost;
      await new Promise<void>((resolve) => (end = resolve));
    });
    await until('it delivers', () => signal !== undefined);
    expect(signal?.aborted).toBe(false);
    await postgres.db.query(`select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted`);
    await until('it knows', () => signal?.aborted);
    end();
    await expect(holding).rejects.toThrow();
  });

  test('more answers than fit into one batch are delivered by one run of the sweep', async () => {
    const large = await submitUndelivered(8, undefined, 'x'.repeat(3_000_000));
    const small = await submitUndelivered(2);
    await whileSweeping(new FakeTemporal(), async ({ attempts }) => {
      await untilDelivered([...large.taskIds, ...small.taskIds]);
      expect(new Set(attempts.map(({ run }) => run)).size).toBe(1);
    });
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
    expect(temporal.started.filter(({ carried }) => carried)).toEqual([]);
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
    const [started] = temporal.started;
    expect(started).toMatchObject({ id: submissionId, workflowId });
    // Repeating the first dispatch would publish running tasks again.
    expect(submissionInputOf(started!).carried?.dispatches).toBeGreaterThan(1_000_000);
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
