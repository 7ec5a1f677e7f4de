import type { Database } from './database';
import { storableJson, storableText } from './storable';

/** Messages that the service could not process, each with the reason. Administrators can delete and requeue them. */

export interface NewDeadLetter {
  queue: string;
  routingKey: string;
  reason: string;
  body: Buffer;
  headers: Record<string, unknown>;
}

export interface DeadLetterRow {
  id: number;
  queue: string;
  routingKey: string | null;
  reason: string;
  size: number;
  headers: Record<string, unknown>;
  createdAt: Date;
}

const COLUMNS = `id, queue, routing_key as "routingKey", reason, octet_length(body) as size, headers, created_at as "createdAt"`;
/** Headers that are larger than this are not stored. */
const MAX_HEADER_CHARS = 64 * 1024;

/** Limits for the dead letters of one queue and routing key, by number and by bytes. The newest are kept. */
const MAX_PER_KEY = 1_000;
const MAX_BYTES_PER_KEY = 64 * 1024 * 1024;

export async function insertDeadLetter(db: Database, letter: NewDeadLetter): Promise<void> {
  await db.query('insert into dead_letters (queue, routing_key, reason, body, headers) values ($1, $2, $3, $4, $5)', [
    storableText(letter.queue),
    storableText(letter.routingKey),
    storableText(letter.reason),
    letter.body,
    headersOf(letter.headers),
  ]);
  await db.query({
    name: 'limit-dead-letters',
    // Several processes may do this at the same time. Skip rows that another process has locked: it deletes them.
    text: `delete from dead_letters where id in (
             select id from dead_letters where id in (
               select id from (
                 select id, row_number() over newest as position, sum(octet_length(body)) over newest as bytes from dead_letters
                  where queue = $1 and routing_key = $2 window newest as (order by id desc)
               ) letter where position > $3 or (bytes > $4 and position > 1))
              order by id for update skip locked)`,
    values: [storableText(letter.queue), storableText(letter.routingKey), MAX_PER_KEY, MAX_BYTES_PER_KEY],
  });
}

function headersOf(headers: Record<string, unknown>): string {
  const json = storableJson(headers);
  return json.length <= MAX_HEADER_CHARS ? json : '{}';
}

/** Dead letters with an ID below `before`, newest first. */
export async function listDeadLetters(db: Database, before: number | undefined, limit: number): Promise<DeadLetterRow[]> {
  const { rows } = await db.query<DeadLetterRow>(
    `select ${COLUMNS} from dead_letters where $1::bigint is null or id < $1 order by id desc limit $2`,
    [before ?? null, limit],
  );
  return rows;
}

export async function findDeadLetter(db: Database, id: number): Promise<(DeadLetterRow & { body: Buffer }) | undefined> {
  const { rows } = await db.query<DeadLetterRow & { body: Buffer }>(`select ${COLUMNS}, body from dead_letters where id = $1`, [
    id,
  ]);
  return rows[0];
}

export async function deleteDeadLetter(db: Database, id: number): Promise<boolean> {
  const { rowCount } = await db.query('delete from dead_letters where id = $1', [id]);
  return rowCount === 1;
}
