import { TerminalError } from '../contracts/errors';
import { idTimeMs } from '../contracts/ids';
import type { Identity } from '../platform/access';
import type { Config } from '../platform/config';
import type { Database } from '../platform/store/database';
import { findTask, findTaskGroup, type TaskGroupRow, type TaskRow } from '../platform/store/tasks';

/** Tasks and groups of the caller, or what it is to be told. */

const DAY_MS = 86_400_000;

export async function requireTask(db: Database, config: Config, identity: Identity, id: string): Promise<TaskRow> {
  const row = await findTask(db, identity.id, id);
  if (row) return row;
  // Made up ids of that age get the same answer; it says nothing about anybody's tasks.
  const goneMs = idTimeMs(id) + config.FUNCX_RETENTION_DAYS * DAY_MS;
  const isOurs = id[14] === '8';
  if (isOurs && goneMs < Date.now()) {
    throw new TerminalError(
      'EXPIRED',
      `task ${id} was kept until ${new Date(goneMs).toISOString().slice(0, 10)} and then removed`,
    );
  }
  throw new TerminalError('TASK_NOT_FOUND', `no task ${id} belongs to you; check the id and who you are`, {
    subject: { kind: 'task', ids: [id] },
  });
}

export async function requireTaskGroup(db: Database, identity: Identity, id: string): Promise<TaskGroupRow> {
  const row = await findTaskGroup(db, identity.id, id);
  if (!row) {
    throw new TerminalError('GROUP_NOT_FOUND', `no task group ${id} belongs to you; check the id and who you are`, {
      subject: { kind: 'task group', ids: [id] },
    });
  }
  return row;
}
