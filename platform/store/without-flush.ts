/**
 * Joined to a statement, it lets the commit return before the disk has it. Only for notes that are made again after a crash
 * of the database server: delivered, started, heard. Bodies, claims and answers wait for the disk.
 */
export const WITHOUT_FLUSH = `(select set_config('synchronous_commit', 'off', true)) as without_flush`;
