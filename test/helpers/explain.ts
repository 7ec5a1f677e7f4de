import type { Database } from '../../platform/store/database';

/**
 * The plan of the only statement of `use`, as text. Sequential scans are avoided where an index fits, because tests have few
 * rows.
 */
export async function explain(db: Database, use: (db: Database) => Promise<unknown>): Promise<string> {
  const statements: { text: string; values: unknown[] }[] = [];
  const recorder = {
    query: async (statement: string | { text: string; values?: unknown[] }, values: unknown[] = []) => {
      statements.push(typeof statement === 'string' ? { text: statement, values } : { values, ...statement });
      return { rows: [], rowCount: 0 };
    },
  };
  await use(recorder as unknown as Database);
  const [statement] = statements;
  if (!statement || statements.length > 1) throw new Error(`expected one statement, not ${statements.length}`);
  const client = await db.connect();
  try {
    await client.query('set enable_seqscan = off');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${statement.text}`, statement.values);
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  } finally {
    client.release(true); // its settings are its own
  }
}
