import { randomUUID } from 'node:crypto';

import { RetryableError } from '../../contracts/errors';
import type { Database } from './database';
import { WITHOUT_FLUSH } from './without-flush';

/** Results that agents upload before their result messages. */

/** Stores an uploaded value until the result message that announces it is stored. */
export async function saveUpload(db: Database, taskId: string, attempt: number, body: Buffer): Promise<void> {
  await db.query(
    `insert into uploads (id, attempt, body) values ($1, $2, $3) on conflict (id, attempt) do update set body = excluded.body`,
    [taskId, attempt, body],
  );
}

/**
 * Stores an uploaded value that arrives in parts. Each part is stored when it arrives, so no process holds the whole value and no
 * transaction waits for a slow sender. The last statement assembles the value. It counts the parts, because a crash of the
 * database server may lose some of them.
 */
export async function saveUploadInParts(
  db: Database,
  taskId: string,
  attempt: number,
  parts: AsyncIterable<Buffer>,
): Promise<void> {
  const uploadId = randomUUID();
  let count = 0;
  const insert = async (body: Buffer): Promise<void> =>
    void (await db.query(
      `insert into upload_parts (upload_id, part, body) select $1::uuid, $2::integer, $3::bytea from ${WITHOUT_FLUSH}`,
      [uploadId, count++, body],
    ));
  let last: Buffer = Buffer.alloc(0);
  try {
    for await (const part of parts) {
      if (last.length > 0) await insert(last);
      last = part;
    }
    if (count === 0) return await saveUpload(db, taskId, attempt, last);
    await insert(last);
    const { rowCount } = await db.query(
      `with complete as (
         insert into uploads (id, attempt, body)
         select $1, $2, string_agg(body, ''::bytea order by part) from upload_parts where upload_id = $3 having count(*) = $4
         on conflict (id, attempt) do update set body = excluded.body
       )
       delete from upload_parts where upload_id = $3`,
      [taskId, attempt, uploadId, count],
    );
    if (rowCount !== count) throw new RetryableError(`the store lost a part of the result of task ${taskId}; upload it again`);
  } catch (error) {
    // If the store is unavailable, the sweep of uploads removes the parts later.
    if (count > 0) await db.query('delete from upload_parts where upload_id = $1', [uploadId]).catch(() => undefined);
    throw error;
  }
}
