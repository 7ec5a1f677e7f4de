/** Further nudges are dropped: every submission reads the store within an hour without a nudge. */
const LIMIT = 100_000;

const submissionIds = new Set<string>();

/**
 * Submissions that this process could not nudge, because Temporal was unreachable or their workflow is not running. The sweep
 * nudges them again. The list is lost when the process ends. In the store, the sweep also finds submissions whose tasks are all
 * answered, and those whose retries are due.
 */
export const missedNudges = {
  add(submissionId: string): void {
    if (submissionIds.size < LIMIT) submissionIds.add(submissionId);
  },

  take(limit: number): string[] {
    const taken = [...submissionIds].slice(0, limit);
    for (const id of taken) submissionIds.delete(id);
    return taken;
  },
};
