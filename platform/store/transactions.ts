import type { PoolClient, QueryConfig, QueryResult, QueryResultRow } from 'pg';

import type { Database } from './database';

/** Runs `work` in a transaction on one connection. */
export async function inTransaction<T>(db: Database, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await db.connect();
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    client.release();
    return result;
  } catch (error) {
    client.release(!(await rollback(client)));
    throw error;
  }
}

const ROLLBACK_TIMEOUT_MS = 1_000;

/** False when the connection hangs or is broken. The caller then closes it, which ends its transaction. */
async function rollback(client: PoolClient): Promise<boolean> {
  const query: QueryConfig & { query_timeout: number } = { text: 'rollback', query_timeout: ROLLBACK_TIMEOUT_MS };
  return client.query(query).then(
    () => true,
    () => false,
  );
}

export function sqlState(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

const SLOW_TIMEOUT_MS = 600_000;

/** Runs a statement of maintenance, which may take longer than the timeouts for requests. */
export function slowQuery<Row extends QueryResultRow>(
  db: Database,
  text: string,
  values: unknown[] = [],
): Promise<QueryResult<Row>> {
  return inTransaction(db, async (client) => {
    await client.query(`set local statement_timeout = ${SLOW_TIMEOUT_MS}`);
    const query: QueryConfig & { query_timeout: number } = { text, values, query_timeout: SLOW_TIMEOUT_MS + 5_000 };
    return client.query<Row>(query);
  });
}

const LOCK_NOT_AVAILABLE = '55P03';

export const isLockTimeout = (error: unknown): boolean => sqlState(error) === LOCK_NOT_AVAILABLE;
