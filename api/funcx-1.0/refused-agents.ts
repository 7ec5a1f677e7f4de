/**
 * Recognizes running agents of 1.0.2 to 1.0.6 that register again after another agent took over. They retry forever, every 10
 * to 300 s, and log successful responses but no errors. The service therefore sends a repeated refusal as a success
 * without queues: the log then has the reason, and the agent retries as after an error. Best effort, per process.
 */
export interface RefusedAgents {
  /** Records a refusal. True if it follows an earlier one at the interval of such an agent. */
  isRepeated(endpointId: string): boolean;
}

const RETRY_MS = { shortest: 8_000, longest: 400_000 };

export function createRefusedAgents(now: () => number = Date.now): RefusedAgents {
  const refusedAt = new Map<string, number>();

  function forgetOld(): void {
    for (const [id, at] of refusedAt) {
      if (now() - at < RETRY_MS.longest) return; // The map is in order of time.
      refusedAt.delete(id);
    }
  }

  return {
    isRepeated(endpointId) {
      forgetOld();
      const before = refusedAt.get(endpointId);
      refusedAt.delete(endpointId); // Moves the entry to the end.
      refusedAt.set(endpointId, now());
      return before !== undefined && now() - before >= RETRY_MS.shortest;
    },
  };
}
