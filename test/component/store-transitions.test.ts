import { isEndState, TASK_STATES, TASK_TRANSITIONS, type TaskState } from '../../contracts/states';
import { storeAnswers, type Answer, type Verdict } from '../../platform/store/answers';
import { releaseDue } from '../../platform/store/claims';
import type { Database } from '../../platform/store/database';
import { markRunning, requeueLost } from '../../platform/store/presence';
import { saveUpload } from '../../platform/store/uploads';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, inFlight, makeFixture, openOf, stateOf, submit, type StoreFixture } from '../helpers/store-fixture';

/** The matrix of verbs and states, on the real database: what each statement does to a task in each state. */

let postgres: ScratchPostgres;
let fixture: StoreFixture;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);
beforeEach(async () => {
  fixture = await makeFixture(postgres.db);
});

const answerOf = (taskId: string, extra: Partial<Answer>): Answer => ({
  taskId,
  state: 'succeeded',
  frame: frame(taskId),
  ...extra,
});
const fromAgent = (taskId: string, extra: Partial<Answer> = {}): Answer =>
  answerOf(taskId, { endpointQueueId: fixture.endpointId, attempt: 1, ...extra });

/** A task that was brought to the state by the statements that do so in life. */
async function taskIn(state: TaskState): Promise<{ id: string; submissionId: string }> {
  const {
    taskIds: [id = ''],
    submissionId,
  } = await submit(postgres.db, fixture, 1);
  const store = (answer: Answer): Promise<unknown> => storeAnswers(postgres.db, [answer]);
  switch (state) {
    case 'waiting':
      break;
    case 'delayed':
      await claim(postgres.db, fixture);
      await store(fromAgent(id, { state: 'failed', retryMs: 60_000 }));
      break;
    case 'dispatched':
      await claim(postgres.db, fixture);
      break;
    case 'running':
      await claim(postgres.db, fixture);
      await markRunning(postgres.db, fixture.endpointId, [id]);
      break;
    case 'succeeded':
    case 'failed':
      await claim(postgres.db, fixture);
      await store(fromAgent(id, { state }));
      break;
    case 'cancelled':
    case 'expired':
      await store(answerOf(id, { state }));
      break;
  }
  expect(await stateOf(postgres.db, id)).toBe(state);
  return { id, submissionId };
}

type Verb = 'cancel' | 'expire' | 'result' | 'failure' | 'retry' | 'loss' | 'claim' | 'run' | 'release';

async function perform(verb: Verb, id: string, submissionId: string): Promise<void> {
  const { db } = postgres;
  switch (verb) {
    case 'cancel':
      await storeAnswers(db, [answerOf(id, { state: 'cancelled' })]);
      break;
    case 'expire':
      await storeAnswers(db, [answerOf(id, { state: 'expired' })]);
      break;
    case 'result':
      await storeAnswers(db, [fromAgent(id)]);
      break;
    case 'failure':
      await storeAnswers(db, [fromAgent(id, { state: 'failed' })]);
      break;
    case 'retry':
      await storeAnswers(db, [fromAgent(id, { state: 'failed', retryMs: 60_000 })]);
      break;
    case 'loss':
      await requeueLost(db, [{ id, attempt: 1 }], 3);
      break;
    case 'claim':
      await claim(db, fixture);
      break;
    case 'run':
      await markRunning(db, fixture.endpointId, [id]);
      break;
    case 'release':
      await db.query('update tasks set due_at = now() where id = $1 and due_at is not null', [id]);
      await releaseDue(db, submissionId, Date.now());
      break;
  }
}

const ENDED = { succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled', expired: 'expired' } as const;
/** The state after the verb; a waiting task was never sent to the agent, so its answers do not count. */
const MATRIX: Record<Verb, Record<TaskState, TaskState>> = {
  cancel: { waiting: 'cancelled', delayed: 'cancelled', dispatched: 'cancelled', running: 'cancelled', ...ENDED },
  expire: { waiting: 'expired', delayed: 'expired', dispatched: 'expired', running: 'expired', ...ENDED },
  result: { waiting: 'waiting', delayed: 'succeeded', dispatched: 'succeeded', running: 'succeeded', ...ENDED },
  failure: { waiting: 'waiting', delayed: 'failed', dispatched: 'failed', running: 'failed', ...ENDED },
  retry: { waiting: 'waiting', delayed: 'delayed', dispatched: 'delayed', running: 'delayed', ...ENDED },
  loss: { waiting: 'waiting', delayed: 'delayed', dispatched: 'waiting', running: 'waiting', ...ENDED },
  claim: { waiting: 'dispatched', delayed: 'delayed', dispatched: 'dispatched', running: 'running', ...ENDED },
  run: { waiting: 'waiting', delayed: 'delayed', dispatched: 'running', running: 'running', ...ENDED },
  release: { waiting: 'waiting', delayed: 'waiting', dispatched: 'dispatched', running: 'running', ...ENDED },
};

describe.each(Object.keys(MATRIX) as Verb[])('the verb %s', (verb) => {
  test.each(TASK_STATES)(`${verb}: a task that is %s ends up as the table of states says`, async (state) => {
    const { id, submissionId } = await taskIn(state);
    await perform(verb, id, submissionId);

    const after = await stateOf(postgres.db, id);
    expect(after).toBe(MATRIX[verb][state]);
    expect(after === state || TASK_TRANSITIONS[state].includes(after)).toBe(true);
    expect(await openOf(postgres.db, submissionId)).toBe(isEndState(after) ? 0 : 1);
    const { counted, found } = await inFlight(postgres.db, fixture);
    expect(counted).toBe(found);
    const { rows } = await postgres.db.query('select id from results where id = $1', [id]);
    expect(rows).toHaveLength(isEndState(after) ? 1 : 0);
  });
});

const verdicts = async (...answers: Answer[]): Promise<Verdict[]> =>
  (await storeAnswers(postgres.db, answers)).map((row) => row.verdict);

test('a delayed task is released when it is due by the clock of its workflow, though the clock of the store trails', async () => {
  const { id, submissionId } = await taskIn('delayed');
  expect(await releaseDue(postgres.db, submissionId, Date.now())).toBe(0);
  expect(await releaseDue(postgres.db, submissionId, Date.now() + 61_000)).toBe(1);
  expect(await stateOf(postgres.db, id)).toBe('waiting');
});

test('an attempt that waited for a minute at its agent and never ran spends no loss; one that ran does', async () => {
  const [queued, ran] = [await taskIn('dispatched'), await taskIn('running')];
  const ids = [queued.id, ran.id];
  await postgres.db.query(`update tasks set dispatched_at = now() - interval '2 minutes', losses = 3 where id = any ($1)`, [ids]);
  const lost = await requeueLost(
    postgres.db,
    ids.map((id) => ({ id, attempt: 1 })),
    3,
  );
  expect(new Map(lost.map(({ id, isFinal }) => [id, isFinal]))).toEqual(
    new Map([
      [queued.id, false],
      [ran.id, true],
    ]),
  );
  const { rows } = await postgres.db.query('select state, losses from tasks where id = $1', [queued.id]);
  expect(rows).toEqual([{ state: 'waiting', losses: 3 }]);
});

test('the late success of an attempt that was given up counts, and the next dispatch has nothing to do', async () => {
  const { id, submissionId } = await taskIn('dispatched');
  await requeueLost(postgres.db, [{ id, attempt: 1 }], 3);
  expect(await verdicts(fromAgent(id))).toEqual(['stored']);
  expect(await stateOf(postgres.db, id)).toBe('succeeded');
  expect(await claim(postgres.db, fixture)).toEqual([]);
  expect(await openOf(postgres.db, submissionId)).toBe(0);
});

test('the late failure of an attempt that was followed by another one is dropped', async () => {
  const { id } = await taskIn('dispatched');
  await requeueLost(postgres.db, [{ id, attempt: 1 }], 3);
  await claim(postgres.db, fixture);
  expect(await verdicts(fromAgent(id, { state: 'failed' }))).toEqual(['stale']);
  expect(await stateOf(postgres.db, id)).toBe('dispatched');
});

test('an answer of another endpoint, or for a task that was never sent, does not count', async () => {
  const { id } = await taskIn('dispatched');
  const other = await makeFixture(postgres.db);
  const waiting = (await submit(postgres.db, other, 1)).taskIds[0] ?? '';
  expect(await verdicts(fromAgent(id, { endpointQueueId: other.endpointId }))).toEqual(['foreign']);
  expect(await verdicts(fromAgent(waiting, { endpointQueueId: other.endpointId }))).toEqual(['foreign']);
});

test('a foreign answer in the same batch does not push the right one aside', async () => {
  const { id } = await taskIn('dispatched');
  const other = await makeFixture(postgres.db);
  expect(await verdicts(fromAgent(id, { endpointQueueId: other.endpointId }), fromAgent(id), fromAgent(id))).toEqual([
    'foreign',
    'stored',
    'duplicate',
  ]);
});

test('a success in the same batch as a failure that would be retried is the answer', async () => {
  const { id } = await taskIn('dispatched');
  expect(await verdicts(fromAgent(id, { state: 'failed', retryMs: 0 }), fromAgent(id))).toEqual(['duplicate', 'stored']);
});

test('the same failure delivered twice is one retry with one pause', async () => {
  const { id } = await taskIn('delayed');
  const due = async (): Promise<unknown> =>
    (await postgres.db.query('select due_at, losses from tasks where id = $1', [id])).rows[0];
  const before = await due();
  const [again] = await storeAnswers(postgres.db, [fromAgent(id, { state: 'failed', retryMs: 120_000, isLoss: true })]);
  expect(again).toMatchObject({ verdict: 'retry', nudge: true });
  expect(await due()).toEqual(before);
});

test('a lost worker is counted as a loss, not as an attempt of the user', async () => {
  const { id } = await taskIn('running');
  await storeAnswers(postgres.db, [fromAgent(id, { state: 'failed', retryMs: 0, isLoss: true })]);
  expect((await postgres.db.query('select losses, attempt from tasks where id = $1', [id])).rows[0]).toEqual({
    losses: 1,
    attempt: 1,
  });
});

test('a decision about an old attempt leaves a newer one alone', async () => {
  const { id } = await taskIn('dispatched');
  await requeueLost(postgres.db, [{ id, attempt: 1 }], 3);
  expect(await verdicts(answerOf(id, { state: 'failed', attempt: 1 }))).toEqual(['stale']);
  await claim(postgres.db, fixture);
  expect(await verdicts(answerOf(id, { state: 'failed', attempt: 1 }))).toEqual(['stale']);
  expect(await requeueLost(postgres.db, [{ id, attempt: 1 }], 3)).toEqual([]);
});

test('a duplicate asks for the nudge again until the submission has finished', async () => {
  const { id, submissionId } = await taskIn('dispatched');
  const nudges = async (): Promise<unknown> =>
    (await storeAnswers(postgres.db, [fromAgent(id)])).map(({ verdict, nudge }) => ({ verdict, nudge }));
  expect(await nudges()).toEqual([{ verdict: 'stored', nudge: true }]);
  expect(await nudges()).toEqual([{ verdict: 'duplicate', nudge: true }]);
  await postgres.db.query(`update submissions set state = 'done', finished_at = now() where id = $1`, [submissionId]);
  expect(await nudges()).toEqual([{ verdict: 'duplicate', nudge: false }]);
});

test('the store puts a value that was left over HTTP behind the message that announces it, and answers with both', async () => {
  const {
    taskIds: [id = ''],
  } = await submit(postgres.db, fixture, 1, { queue: 'single' });
  await claim(postgres.db, fixture);
  const value = '11\n"quotes, a \\ and \u00fc"';
  const whole = Buffer.from(frame(id, value)).toString('utf8');
  const open = Buffer.from(whole.slice(0, whole.indexOf(JSON.stringify(value))));
  await saveUpload(postgres.db, id, 1, Buffer.from(value));
  const [completed] = await storeAnswers(postgres.db, [fromAgent(id, { frame: open })]);
  expect(completed).toMatchObject({ verdict: 'stored', hasQueue: true });
  expect(completed?.frame?.toString('utf8')).toBe(whole);
  const { rows } = await postgres.db.query<{ frame: Buffer }>('select frame from results where id = $1', [id]);
  expect(rows[0]?.frame.toString('utf8')).toBe(whole);
});

test('a submission counts the bytes of its arguments and of its results, also of those that came over HTTP', async () => {
  const {
    submissionId,
    taskIds: [id = '', uploaded = '', retried = ''],
  } = await submit(postgres.db, fixture, 3, { payload: 'x'.repeat(100) });
  const bytes = async (): Promise<number> => {
    const { rows } = await postgres.db.query<{ bytes: number }>(
      'select stored_bytes::integer as bytes from submissions where id = $1',
      [submissionId],
    );
    return rows[0]!.bytes; // the test made it
  };
  expect(await bytes()).toBe(300);
  await claim(postgres.db, fixture);
  const whole = frame(id, 'y'.repeat(1_000));
  await storeAnswers(postgres.db, [fromAgent(id, { frame: whole }), fromAgent(retried, { state: 'failed', retryMs: 60_000 })]);
  expect(await bytes()).toBe(300 + whole.length);
  await saveUpload(postgres.db, uploaded, 1, Buffer.alloc(5_000, 'z'));
  const open = Buffer.from('{"message_type":"result","data":{"data":');
  await storeAnswers(postgres.db, [fromAgent(uploaded, { frame: open }), fromAgent(id, { frame: whole })]);
  expect(await bytes()).toBe(300 + whole.length + open.length + 5_000);
});

test('an answer changes its submission in place: no index of the table is written', async () => {
  const { taskIds } = await submit(postgres.db, fixture, 4);
  await claim(postgres.db, fixture);
  const client = await postgres.db.connect();
  try {
    await client.query('begin');
    // The session may not have reported its earlier changes yet, and counts them here.
    const countChanges = async (): Promise<{ updated: number; inPlace: number }> => {
      const { rows } = await client.query<{ updated: number; inPlace: number }>(
        `select pg_stat_get_xact_tuples_updated('submissions'::regclass)::integer as updated,
                pg_stat_get_xact_tuples_hot_updated('submissions'::regclass)::integer as "inPlace"`,
      );
      return rows[0]!; // one row always
    };
    const before = await countChanges();
    for (const taskId of taskIds.slice(1)) {
      await storeAnswers(client as unknown as Database, [fromAgent(taskId)]);
    }
    const after = await countChanges();
    expect({ updated: after.updated - before.updated, inPlace: after.inPlace - before.inPlace }).toEqual({
      updated: 3,
      inPlace: 3,
    });
  } finally {
    await client.query('rollback');
    client.release();
  }
});
