import type { SubmissionStart } from '../contracts/submission';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { markStarted } from '../platform/store/submissions';

type Started = Pick<SubmissionStart, 'id' | 'lastId'>;

/** Notes in the store that workflows were started: many by one statement, and none while its call is on its way. */
export interface StartedNotes {
  /** The sweep skips submissions with a note. Without it, the sweep starts the workflow once more, which does nothing. */
  add(started: readonly Started[]): void;
}

/** The sweep looks at submissions that are older than 3 s. */
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
        'could not note that workflows started; the sweep starts them once more',
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
