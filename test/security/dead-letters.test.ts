import { insertDeadLetter, listDeadLetters } from '../../platform/store/dead-letters';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** An agent that publishes messages which nobody can process. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 120_000);
afterAll(() => postgres.stop(), 60_000);

const put = (routingKey: string, bytes: number): Promise<void> =>
  insertDeadLetter(postgres.db, { queue: 'results', routingKey, reason: 'malformed', body: Buffer.alloc(bytes, 1), headers: {} });

test('the dead letters of one agent have a share of the store, and push out none of another agent', async () => {
  await put('victim.results', 10);
  for (let n = 0; n < 10; n++) await put('hostile.results', 8 * 1024 * 1024);
  for (let n = 0; n < 1_010; n++) await put('chatty.results', 1);
  const letters = await listDeadLetters(postgres.db, undefined, 5_000);
  const of = (key: string): typeof letters => letters.filter(({ routingKey }) => routingKey === key);
  expect(of('victim.results')).toHaveLength(1);
  expect(of('chatty.results')).toHaveLength(1_000);
  const bytes = of('hostile.results').reduce((sum, { size }) => sum + size, 0);
  expect(bytes).toBe(64 * 1024 * 1024);
}, 60_000);
