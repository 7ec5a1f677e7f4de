import type { ClaimedTask } from '../platform/store/claims';

/**
 * Submissions that this process has just accepted, for the first step of their workflows. A workflow starts while the bodies are
 * still being stored. Its first step waits here until they are durable, and gets the claimed tasks from memory. In any other
 * process, and after a crash, the step reads the store instead.
 */

/** The outcome of the insert. `unknown`: the insert failed, but its rows may be stored. */
export type FreshOutcome = { kind: 'stored'; claimed: ClaimedTask[] } | { kind: 'refused' } | { kind: 'unknown' };

export interface FreshSubmissions {
  /** Call before starting the workflow. */
  add(submissionId: string, insert: Promise<FreshOutcome>): void;
  /** Returns the outcome of the insert, once. Undefined if this process did not accept the submission. */
  take(submissionId: string): Promise<FreshOutcome> | undefined;
  /** False while tasks cannot be published: claimed tasks would only occupy places in their window. */
  mayClaim(): boolean;
}

/** A workflow that has not started in this process by then takes its first step in another one. */
const KEEP_MS = 20_000;

export function createFreshSubmissions(mayPublish: () => boolean): FreshSubmissions {
  const fresh = new Map<string, { insert: Promise<FreshOutcome>; timer: NodeJS.Timeout }>();
  return {
    add(submissionId, insert) {
      const timer = setTimeout(() => fresh.delete(submissionId), KEEP_MS).unref();
      fresh.set(submissionId, { insert, timer });
    },
    take(submissionId) {
      const found = fresh.get(submissionId);
      if (!found) return undefined;
      clearTimeout(found.timer);
      fresh.delete(submissionId);
      return found.insert;
    },
    mayClaim: mayPublish,
  };
}
