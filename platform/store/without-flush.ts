/**
 * Joined to a statement, this lets the commit return before it is flushed to disk. Use it only for records that are written again
 * after a crash of the database server: delivered, started, heartbeats. Bodies, claims and answers must wait for the disk.
 */
export const WITHOUT_FLUSH = `(select set_config('synchronous_commit', 'off', true)) as without_flush`;
