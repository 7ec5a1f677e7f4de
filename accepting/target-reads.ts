import { createGathering } from '../platform/gather';
import type { Database } from '../platform/store/database';
import { readSubmitTargets, type SubmitTarget } from '../platform/store/endpoints';

interface Asked {
  endpointId: string;
  functionIds: readonly string[];
}

/**
 * Reads the endpoint and the functions of a request; undefined for an unknown endpoint. In a burst of requests, one read serves
 * all requests for the same objects. It starts after the last of them arrived, so that no request misses an earlier change.
 */
export type ReadTarget = (endpointId: string, functionIds: readonly string[]) => Promise<SubmitTarget | undefined>;

export function createTargetReads(db: Database): ReadTarget {
  const read = createGathering<Asked, SubmitTarget | undefined>((asked) => {
    const reads = new Map<string, Promise<SubmitTarget[]>>();
    return Promise.all(
      asked.map(async ({ endpointId, functionIds }) => {
        const key = `${endpointId} ${functionIds.join(' ')}`;
        const shared = reads.get(key) ?? readSubmitTargets(db, [endpointId], functionIds);
        reads.set(key, shared);
        return (await shared)[0];
      }),
    );
  });
  return (endpointId, functionIds) => read({ endpointId, functionIds });
}
