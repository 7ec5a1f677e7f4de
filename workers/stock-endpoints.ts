import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import { removeOldUnanswered } from '../platform/store/unanswered-requests';

/** Looks after user endpoints of stock agents (what it does lives in `activities/user-endpoints`), and sweeps after clients. */

const TEND_MS = 1_000;
const SWEEP_MS = 600_000;
/** The clients give up repeating a submit long before. */
const UNANSWERED_S = 3_600;

export function startTending(deps: ActivityDeps, userEndpoints: UserEndpoints): { close(): Promise<void> } {
  const repeats = [
    repeat(TEND_MS, 'user endpoints could not be looked after', () => userEndpoints.tend()),
    repeat(SWEEP_MS, 'what clients left behind could not be swept', () => removeOldUnanswered(deps.db, UNANSWERED_S)),
  ];

  function repeat(everyMs: number, text: string, work: () => Promise<void>): { close(): Promise<void> } {
    let current: Promise<void> | undefined;
    const timer = setInterval(() => {
      current ??= work()
        .catch((error: unknown) => deps.log.warn({ err: error }, `${text}; it is tried again`))
        .finally(() => (current = undefined));
    }, everyMs);
    return {
      async close() {
        clearInterval(timer);
        await current;
      },
    };
  }

  return {
    async close() {
      await Promise.all(repeats.map((one) => one.close()));
    },
  };
}
