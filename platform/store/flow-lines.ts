import type { PoolClient } from 'pg';

/** The progress of the lines of a run. Only the interpreter's activities read and write it. */

export interface LineRow {
  line: string;
  scope: string[];
  context: Record<string, unknown>;
  position: number;
  generation: number;
  status: 'running' | 'succeeded' | 'failed';
  state: string | null;
  data: string;
  pending: unknown;
  step: unknown;
  error: { Error: string; Cause: unknown } | null;
  entered: number;
}

type Queryable = Pick<PoolClient, 'query'>;

const COLUMNS = 'line, scope, context, position, generation, status, state, data, pending, step, error, entered';

export async function insertLines(
  client: Queryable,
  runId: string,
  lines: readonly { line: string; scope: readonly string[]; context: unknown; state: string; data: string; generation: number }[],
): Promise<void> {
  await client.query(
    `insert into flow_lines (run_id, line, scope, context, state, data, generation)
     select $1, l.line, l.scope, l.context, l.state, l.data, l.generation
       from unnest($2::text[], $3::json[], $4::json[], $5::text[], $6::text[], $7::integer[])
            as l (line, scope, context, state, data, generation)
     on conflict do nothing`,
    [
      runId,
      lines.map(({ line }) => line),
      lines.map(({ scope }) => JSON.stringify(scope)),
      lines.map(({ context }) => JSON.stringify(context)),
      lines.map(({ state }) => state),
      lines.map(({ data }) => data),
      lines.map(({ generation }) => generation),
    ],
  );
}

/** Reads a line and locks it until the end of the transaction. */
export async function lockLine(client: Queryable, runId: string, line: string): Promise<LineRow | undefined> {
  const { rows } = await client.query<LineRow>(`select ${COLUMNS} from flow_lines where run_id = $1 and line = $2 for update`, [
    runId,
    line,
  ]);
  return rows[0];
}

export async function readLine(db: Queryable, runId: string, line: string): Promise<LineRow | undefined> {
  const { rows } = await db.query<LineRow>(`select ${COLUMNS} from flow_lines where run_id = $1 and line = $2`, [runId, line]);
  return rows[0];
}

export async function saveLine(client: Queryable, runId: string, row: LineRow): Promise<void> {
  await client.query(
    `update flow_lines set position = $3, generation = $4, status = $5, state = $6, data = $7, pending = $8, step = $9, error = $10,
            entered = $11
      where run_id = $1 and line = $2`,
    [
      runId,
      row.line,
      row.position,
      row.generation,
      row.status,
      row.state,
      row.data,
      row.pending === null ? null : JSON.stringify(row.pending),
      JSON.stringify(row.step),
      row.error === null ? null : JSON.stringify(row.error),
      row.entered,
    ],
  );
}

/** Saves what is known about the state that the line is in. Does nothing if the line has left the state. */
export async function savePending(
  db: Queryable,
  { runId, line, position }: { runId: string; line: string; position: number },
  pending: unknown,
): Promise<void> {
  await db.query('update flow_lines set pending = $4 where run_id = $1 and line = $2 and position = $3', [
    runId,
    line,
    position,
    JSON.stringify(pending),
  ]);
}

/** The lines `<prefix>0`, `<prefix>1` and so on, ordered by number. */
export async function listLines(
  db: Queryable,
  runId: string,
  prefix: string,
): Promise<{ index: number; status: LineRow['status']; data: string; error: LineRow['error'] }[]> {
  const { rows } = await db.query<{ index: number; status: LineRow['status']; data: string; error: LineRow['error'] }>(
    `select substr(line, length($2) + 1)::integer as index, status, data, error from flow_lines
      where run_id = $1 and starts_with(line, $2) and substr(line, length($2) + 1) ~ '^[0-9]+$' order by 1`,
    [runId, prefix],
  );
  return rows;
}

/** Deletes the lines of a state that has ended, including the lines inside them. */
export async function deleteLines(client: Queryable, runId: string, prefix: string): Promise<void> {
  await client.query('delete from flow_lines where run_id = $1 and starts_with(line, $2)', [runId, prefix]);
}
