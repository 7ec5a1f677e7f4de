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

const COLUMNS = `s.id, s.owner_id as "ownerId", s.name, s.flow_id as "flowId", f.title as "flowTitle", s.owns_flow as "ownsFlow",
    s.input, s.created_at as "createdAt"`;
const SELECT = `select ${COLUMNS} from schedules s join flows f on f.id = s.flow_id where s.deleted_at is null`;

/** Undefined when the owner has a schedule with this name. */
export async function insertSchedule(
  db: Database,
  row: Omit<ScheduleRow, 'createdAt' | 'flowTitle'>,
): Promise<ScheduleRow | undefined> {
  const { rows } = await db.query<ScheduleRow>(
    `with made as (
       insert into schedules (id, owner_id, name, flow_id, owns_flow, input) values ($1, $2, $3, $4, $5, $6)
       on conflict do nothing returning *)
     select ${COLUMNS} from made s join flows f on f.id = s.flow_id`,
    [row.id, row.ownerId, row.name, row.flowId, row.ownsFlow, JSON.stringify(row.input)],
  );
  return rows[0];
}

/** Removes a schedule that Temporal refused, as if it had never been inserted. */
export async function removeRefusedSchedule(db: Database, id: string): Promise<void> {
  await db.query('delete from schedules where id = $1', [id]);
}

export async function findSchedule(db: Database, id: string): Promise<ScheduleRow | undefined> {
  const { rows } = await db.query<ScheduleRow>(`${SELECT} and s.id = $1`, [id]);
  return rows[0];
}

export async function isDeletedSchedule(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query('select from schedules where id = $1 and deleted_at is not null', [id]);
  return rowCount === 1;
}

export async function listSchedules(db: Database, ownerId: string): Promise<ScheduleRow[]> {
  const { rows } = await db.query<ScheduleRow>(`${SELECT} and s.owner_id = $1 order by s.name`, [ownerId]);
  return rows;
}

export async function deleteSchedule(db: Database, id: string): Promise<void> {
  await db.query('update schedules set deleted_at = now() where id = $1 and deleted_at is null', [id]);
}
