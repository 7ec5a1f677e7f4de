import type { Database } from './database';

/** How far each task group was delivered over the results socket, as the sequence number of the latest delivered answer. */

export interface SocketGroupRow {
  ownerId: string;
  takenSeq: number;
}

export async function findSocketGroup(db: Database, groupId: string): Promise<SocketGroupRow | undefined> {
  const { rows } = await db.query<SocketGroupRow>({
    name: 'socket-group',
    text: 'select owner_id as "ownerId", socket_seq as "takenSeq" from task_groups where id = $1',
    values: [groupId],
  });
  return rows[0];
}

/** Call only after the client received the frames: answers after the cursor are sent again. */
export async function markTaken(db: Database, groupId: string, seq: number): Promise<void> {
  await db.query({
    name: 'socket-taken',
    text: 'update task_groups set socket_seq = $2 where id = $1 and socket_seq < $2',
    values: [groupId, seq],
  });
}
