import { inTransaction } from '../../platform/store/transactions';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { until } from '../helpers/until';

/** A server that ends, as it does in a failover, takes its connections along at any moment. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

test('a connection that is lost between two statements of a transaction fails the transaction, and not the process', async () => {
  const { db } = postgres;
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  const outcome = inTransaction(db, async (client) => {
    let isLost = false;
    client.once('end', () => (isLost = true));
    const before = client.listeners('error').length;
    if (before === 0) client.on('error', note); // without a listener, Node ends the process
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    await db.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
    await until('the connection is lost', () => isLost);
    await client.query('select 1');
  });
  await expect(outcome).rejects.toThrow();
  expect(uncaught).toEqual([]);
  const { rows } = await db.query<{ one: number }>('select 1 as one');
  expect(rows).toEqual([{ one: 1 }]);
});
