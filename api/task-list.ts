import type { z } from 'zod';

import type { taskListSchema, tasksQuerySchema } from '../contracts/http/v1';
import type { Identity } from '../platform/access';
import type { Database } from '../platform/store/database';
import { listTasks, type TasksOf } from '../platform/store/task-list';
import { listedTask } from './results';

/** One page of the tasks of a submission or a task group. */
export async function listTaskPage(
  db: Database,
  { id: identityId }: Identity,
  of: TasksOf,
  { state, after, limit }: z.output<typeof tasksQuerySchema>,
): Promise<z.input<typeof taskListSchema>> {
  const rows = await listTasks(db, of, { states: state ?? [], limit, after });
  const last = rows.at(-1);
  // A page may be shorter than its limit, because it is bounded in bytes as well. Only an empty page is certainly the last one.
  const isLast =
    last === undefined ||
    (rows.length < limit && (await listTasks(db, of, { states: state ?? [], after: last.id, limit: 1 })).length === 0);
  return { tasks: rows.map((row) => listedTask(row, row.ownerId === identityId)), next: isLast ? null : last.id };
}
