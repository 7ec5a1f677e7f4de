import type { ActivityDeps } from '../activities';
import type { UserEndpoints } from '../activities/user-endpoints';
import { removeOldUnanswered } from '../platform/store/unanswered-requests';
import { repeat } from './repeat';

/** Restarts user endpoints of stock agents, and removes records of requests that no client repeats any more. */

const MAINTAIN_MS = 1_000;
const SWEEP_MS = 600_000;
/** Clients stop repeating a submit long before. */
const UNANSWERED_S = 3_600;

export function startClientUpkeep(deps: ActivityDeps, userEndpoints: UserEndpoints): { close(): Promise<void> } {
  const repeats = [
    repeat(MAINTAIN_MS, () => userEndpoints.maintain(), warn('user endpoints could not be maintained')),
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
