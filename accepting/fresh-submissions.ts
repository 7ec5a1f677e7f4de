import type { ClaimedTask } from '../platform/store/claims';

/**
 * Submissions that this process has just accepted, for the first step of their workflows. A workflow starts while the bodies are
 * still being stored. Its first step waits here until they are durable, and gets the claimed tasks from memory. In any other
 * process, and after a crash, the step reads the store instead.
 */

/** What became of the insert. `unknown`: it failed, and may have been done all the same. */
export type FreshOutcome = { kind: 'stored'; claimed: ClaimedTask[] } | { kind: 'refused' } | { kind: 'unknown' };

export interface FreshSubmissions {
  /** Call before the start of the workflow. */
  add(submissionId: string, insert: Promise<FreshOutcome>): void;
  /** The outcome of the insert, once; undefined where this process did not accept the submission. */
  take(submissionId: string): Promise<FreshOutcome> | undefined;
  /** False while tasks can't be published: claimed tasks would only take places at their endpoint. */
  mayClaim(): boolean;
}

/** A workflow that did not start here by then takes its first step elsewhere. */
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
