import type { Database } from './database';

/** What schedules start, and who owns them. */

export interface ScheduleRow {
  id: string;
  ownerId: string;
  name: string;
  flowId: string;
  flowTitle: string;
  ownsFlow: boolean;
  input: unknown;
  createdAt: Date;
}

const SELECT = `select s.id, s.owner_id as "ownerId", s.name, s.flow_id as "flowId", f.title as "flowTitle", s.owns_flow as "ownsFlow",
    s.input, s.created_at as "createdAt" from schedules s join flows f on f.id = s.flow_id where s.deleted_at is null`;

/** False when the owner has a schedule with this name. */
export async function insertSchedule(db: Database, row: Omit<ScheduleRow, 'createdAt' | 'flowTitle'>): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into schedules (id, owner_id, name, flow_id, owns_flow, input) values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    [row.id, row.ownerId, row.name, row.flowId, row.ownsFlow, JSON.stringify(row.input)],
  );
  return rowCount === 1;
}

export async function findSchedule(db: Database, id: string): Promise<ScheduleRow | undefined> {
  const { rows } = await db.query<ScheduleRow>(`${SELECT} and s.id = $1`, [id]);
  return rows[0];
}

export async function listSchedules(db: Database, ownerId: string): Promise<ScheduleRow[]> {
  const { rows } = await db.query<ScheduleRow>(`${SELECT} and s.owner_id = $1 order by s.name`, [ownerId]);
  return rows;
}

export async function deleteSchedule(db: Database, id: string): Promise<void> {
  await db.query('update schedules set deleted_at = now() where id = $1 and deleted_at is null', [id]);
}
