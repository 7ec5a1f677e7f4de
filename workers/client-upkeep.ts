import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import { removeOldUnanswered } from '../platform/store/unanswered-requests';
import { repeat } from './repeat';

/** Looks after user endpoints of stock agents (what it does lives in `activities/user-endpoints`), and sweeps after clients. */

const TEND_MS = 1_000;
const SWEEP_MS = 600_000;
/** The clients give up repeating a submit long before. */
const UNANSWERED_S = 3_600;

export function startTending(deps: ActivityDeps, userEndpoints: UserEndpoints): { close(): Promise<void> } {
  const repeats = [
    repeat(TEND_MS, () => userEndpoints.tend(), warn('user endpoints could not be looked after')),
    repeat(SWEEP_MS, () => removeOldUnanswered(deps.db, UNANSWERED_S), warn('unanswered requests could not be removed')),
  ];

  function warn(text: string): (error: unknown) => void {
    return (error) => deps.log.warn({ err: error }, `${text}; the next run tries again`);
  }

  return {
    async close() {
      await Promise.all(repeats.map((one) => one.close()));
    },
  };
}
