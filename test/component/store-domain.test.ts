import { randomBytes } from 'node:crypto';

import { ID_RANDOM_BYTES, makeSubmissionId, MAX_TASK_INDEX, submissionIdOf, taskIdOf } from '../../contracts/ids';
import { isEndState, SUBMISSION_STATES, TASK_STATES } from '../../contracts/states';
import { listQueuesWithoutPump } from '../../platform/store/presence';
import { listSubmissions } from '../../platform/store/submission-list';
import { explain } from '../helpers/explain';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** The SQL functions that speak of ids and states say the same as the contracts. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const select = async (expression: string, values: unknown[]): Promise<unknown> =>
  (await postgres.db.query<{ value: unknown }>(`select ${expression} as value`, values)).rows[0]?.value;

const someId = (): string => makeSubmissionId(Date.now(), randomBytes(ID_RANDOM_BYTES));

test('SQL knows each task state as open or answered, as the contract does', async () => {
  const { rows } = await postgres.db.query<{ state: string; open: boolean; answered: boolean }>(
    'select state, is_open(state) as open, is_answered(state) as answered from unnest($1::text[]) state',
    [TASK_STATES],
  );
  expect(rows).toEqual(TASK_STATES.map((state) => ({ state, open: !isEndState(state), answered: isEndState(state) })));
});

test('the states in flight are those that a dispatch leads to', async () => {
  const { rows } = await postgres.db.query<{ state: string }>(
    'select state from unnest($1::text[]) state where is_in_flight(state)',
    [TASK_STATES],
  );
  expect(rows.map(({ state }) => state)).toEqual(['dispatched', 'running']);
});

test('SQL knows which states end a submission', async () => {
  const { rows } = await postgres.db.query<{ state: string }>(
    'select state from unnest($1::text[]) state where not is_finished(state)',
    [SUBMISSION_STATES],
  );
  expect(rows.map(({ state }) => state)).toEqual(['waiting', 'running']);
});

test('SQL reads ids as the contract makes them', async () => {
  const id = makeSubmissionId(Date.now(), randomBytes(ID_RANDOM_BYTES));
  for (const index of [1, 4_711, MAX_TASK_INDEX]) {
    const taskId = taskIdOf(id, index);
    expect(await select('submission_of($1)', [taskId])).toBe(submissionIdOf(taskId));
  }
  expect(await select('submission_of($1)', [id])).toBe(id);
  expect(await select('last_task_of($1)', [id])).toBe(taskIdOf(id, MAX_TASK_INDEX));
});

test.each([
  ['is_in_flight(state)', 'queue_id_id_idx'],
  [`state = 'waiting'`, 'queue_id_owner_id_priority_id_idx'],
])('tasks of a queue with %s are read by their partial index', async (condition, index) => {
  const text = `select id from tasks where endpoint_queue_id = $1 and ${condition}`;
  const plan = await explain(postgres.db, (db) => db.query(text, [someId()]));
  expect(plan).toContain(index);
  expect(plan).not.toContain('Filter: ');
});

test('the submissions of an owner are read by their index, in its order', async () => {
  const filter = { ownerId: someId(), isFailed: false, isOpen: false, limit: 10 };
  const plan = await explain(postgres.db, (db) => listSubmissions(db, filter));
  expect(plan).toContain('submissions_owner');
  expect(plan).not.toContain('Sort');
});

test('queues without a pump are looked for among those where tasks wait, and not among all queues and tasks', async () => {
  const plan = await explain(postgres.db, listQueuesWithoutPump);
  expect(plan).toContain('queue_id_owner_id_priority_id_idx');
  expect(plan).toContain('task_queues_pkey on endpoint_queues'); // its name is older than the table's
  expect(plan).not.toMatch(/Seq Scan on (endpoint_queues|tasks)/);
});
