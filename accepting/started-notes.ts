import type { SubmissionStart } from '../contracts/submission';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { markStarted } from '../platform/store/submissions';

type Started = Pick<SubmissionStart, 'id' | 'lastId'>;

/** Records in the store that workflows were started: many workflows in one statement, which no request waits for. */
export interface StartedNotes {
  /** The sweep skips submissions with this record. Without it, the sweep starts the workflow again, which has no effect. */
  add(started: readonly Started[]): void;
}

/** Must be less than 3 s: the sweep reads submissions that are older. */
const DELAY_MS = 500;

export function createStartedNotes(db: Database, log: Logger): StartedNotes {
  let waiting: Started[] = [];

  async function write(): Promise<void> {
    const batch = waiting;
    waiting = [];
    try {
      await markStarted(db, batch);
    } catch (error) {
      log.debug(
        { err: error, submissions: batch.length },
        'could not record that workflows started; the sweep will start them again',
      );
    }
  }

  return {
    add(started) {
      if (started.length === 0) return;
      if (waiting.length === 0) setTimeout(() => void write(), DELAY_MS).unref();
      waiting.push(...started.map(({ id, lastId }) => ({ id, ...(lastId === undefined ? {} : { lastId }) })));
    },
  };
}
