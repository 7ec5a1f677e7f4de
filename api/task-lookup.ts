import { TerminalError } from '../contracts/errors';
import { idTimeMs } from '../contracts/ids';
import type { Identity } from '../platform/access';
import type { Config } from '../platform/config';
import type { Database } from '../platform/store/database';
import { findTask, findTaskGroup, type TaskGroupRow, type TaskRow } from '../platform/store/tasks';

/** Functions that find a task or task group of the caller, or throw the error for the caller. */

const DAY_MS = 86_400_000;

export async function requireTask(db: Database, config: Config, identity: Identity, id: string): Promise<TaskRow> {
  const row = await findTask(db, identity.id, id);
  if (row) return row;
  // Invented IDs of the same age get the same error, so it reveals nothing about other owners' tasks.
  const goneMs = idTimeMs(id) + config.FUNCX_RETENTION_DAYS * DAY_MS;
  const isOurs = id[14] === '8';
  if (isOurs && goneMs < Date.now()) {
    throw new TerminalError(
      'EXPIRED',
      `task ${id} was deleted on ${new Date(goneMs).toISOString().slice(0, 10)}, after its retention time`,
    );
  }
  throw new TerminalError('TASK_NOT_FOUND', `you have no task ${id}; check the ID and the identity that you use`, {
    subject: { kind: 'task', ids: [id] },
  });
}

export async function requireTaskGroup(db: Database, identity: Identity, id: string): Promise<TaskGroupRow> {
  const row = await findTaskGroup(db, identity.id, id);
  if (!row) {
    throw new TerminalError('GROUP_NOT_FOUND', `you have no task group ${id}; check the ID and the identity that you use`, {
      subject: { kind: 'task group', ids: [id] },
    });
  }
  return row;
}
