import { setTimeout as delay } from 'node:timers/promises';

const DEADLINE_MS = 120_000;
const INTERVAL_MS = 100;

/** Resolves once the condition holds. After the deadline, rejects with an error that contains `what`. */
export async function until(what: string, holds: () => Promise<boolean>, deadlineMs = DEADLINE_MS): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs / 1_000} s: ${what}`);
    await delay(INTERVAL_MS);
  }
}
