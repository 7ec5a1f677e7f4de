import { randomBytes } from 'node:crypto';

import { ID_RANDOM_BYTES, makeSubmissionId, MAX_TASK_INDEX, submissionIdOf, taskIdOf } from '../../contracts/ids';
import { isEndState, SUBMISSION_STATES, TASK_STATES } from '../../contracts/states';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** The SQL functions that speak of ids and states say the same as the contracts. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const select = async (expression: string, values: unknown[]): Promise<unknown> =>
  (await postgres.db.query<{ value: unknown }>(`select ${expression} as value`, values)).rows[0]?.value;

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
  const client = await postgres.db.connect();
  try {
    await client.query('set enable_seqscan = off');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(
      `explain select id from tasks where endpoint_queue_id = '${makeSubmissionId(Date.now(), randomBytes(ID_RANDOM_BYTES))}' and ${condition}`,
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toContain(index);
    expect(plan).not.toContain('Filter: ');
  } finally {
    client.release(true); // its settings are its own
  }
});
