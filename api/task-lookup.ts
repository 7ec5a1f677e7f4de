import { TerminalError } from '../contracts/errors';
import { idTimeMs } from '../contracts/ids';
import { decide, type Action, type Identity } from '../platform/access';
import type { Config } from '../platform/config';
import type { Database } from '../platform/store/database';
import { findSubmission, type SubmissionRow } from '../platform/store/submission-list';
import { findTask, findTaskGroup, type TaskGroupRow, type TaskRow } from '../platform/store/tasks';

/** Find an object for an action of the caller, or throw. A hidden object gets the same error as one that does not exist. */

const DAY_MS = 86_400_000;

export async function requireTask(
  db: Database,
  config: Config,
  identity: Identity,
  id: string,
  action: Action = 'read',
): Promise<TaskRow> {
  const row = await findTask(db, id);
  if (row && decide(identity, action, { kind: 'task', ownerId: row.ownerId }) === 'allow') return row;
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

export async function requireSubmission(
  db: Database,
  identity: Identity,
  id: string,
  action: Action = 'read',
): Promise<SubmissionRow> {
  const row = await findSubmission(db, id);
  if (row && decide(identity, action, { kind: 'submission', ownerId: row.ownerId }) === 'allow') return row;
  throw new TerminalError('SUBMISSION_NOT_FOUND', `you have no submission ${id}; check the ID and the identity that you use`);
}

export async function requireTaskGroup(
  db: Database,
  identity: Identity,
  id: string,
  action: Action = 'read',
): Promise<TaskGroupRow> {
  const row = await findTaskGroup(db, id);
  if (!row || decide(identity, action, { kind: 'task group', ownerId: row.ownerId }) !== 'allow') {
    throw new TerminalError('GROUP_NOT_FOUND', `you have no task group ${id}; check the ID and the identity that you use`, {
      subject: { kind: 'task group', ids: [id] },
    });
  }
  return row;
}
