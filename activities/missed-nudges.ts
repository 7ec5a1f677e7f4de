/** More than these are dropped: the submissions read the store by themselves within an hour. */
const LIMIT = 100_000;

const submissionIds = new Set<string>();

/**
 * Submissions of this process that Temporal did not nudge: it was away, or the workflow does not run. The sweep nudges them
 * again. A dead process loses the list; the sweep then finds those in the store whose tasks are all answered.
 */
export const missedNudges = {
  add(submissionId: string): void {
    if (submissionIds.size < LIMIT) submissionIds.add(submissionId);
  },

  /** Removes and returns up to `limit` ids. */
  take(limit: number): string[] {
    const taken = [...submissionIds].slice(0, limit);
    for (const id of taken) submissionIds.delete(id);
    return taken;
  },
};
